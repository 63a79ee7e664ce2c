//! Downstream tasks.

use super::arms::{self, COST};
use super::{ReportFiles, ReportInput, downstream_anomalies};

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    downstream_anomalies::add(input, &arms, &mut files);
    files.table(COST, arms::cost_table(input, &arms));
    files
}
