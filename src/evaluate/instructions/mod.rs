//! Whether requests in words are followed: figure 6.

use anyhow::Result;

use super::{Case, Record};
use crate::data::Dataset;

/// All records of this evaluation.
///
/// # Errors
/// None so far.
pub fn records(_case: &Case) -> Result<Vec<Record>> {
    Ok(Vec::new())
}

/// The reference rows of real graphs.
///
/// # Errors
/// None so far.
pub fn floor(_dataset: &Dataset, _seed: u64) -> Result<Vec<Record>> {
    Ok(Vec::new())
}
