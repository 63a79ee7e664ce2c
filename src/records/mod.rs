//! Numbers as data: what a metric is, what a number is about, its interval, and tables of all of them in
//! Parquet. Evaluation writes them, reports read them; nothing here knows a metric by name.

mod dimensions;
mod interval;
mod metric;
mod parquet;
mod prompt_scores;
mod record;

pub use dimensions::{Bin, Dimensions, PERFECT, WHOLE};
pub use interval::{
    Estimate, Groups, Interval, LEAST_GROUPS, Resamples, bootstrap, drawn, resamples,
};
pub use metric::{Better, IntervalKind, Metric, Unit};
pub use parquet::{load, load_prompt_scores, save, save_prompt_scores, to_frame};
pub use prompt_scores::PromptScores;
pub use record::Record;
