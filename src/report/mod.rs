//! Tables and figures, drawn from records alone.

pub mod figure;
pub mod number;
pub mod table;
