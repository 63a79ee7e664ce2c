//! Scores generated graphs: which conditions to ask for, and what the answers are worth.
//!
//! Every result is a [`Record`]; reports are drawn from records alone.

mod record;

pub use record::{Conditions, Evaluation, Record};
