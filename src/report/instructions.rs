//! Instruction following.

use super::arms::{self, COST};
use super::{ReportFiles, ReportInput};

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table(COST, arms::cost_table(input, &arms));
    files
}
