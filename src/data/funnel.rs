use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::CallGraph;

/// What each step of preprocessing kept and dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Funnel(pub Vec<FunnelStep>);

/// One step: rows and traces that were left after it. What it dropped is the difference to the
/// step before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunnelStep {
    /// What the step demands, in words: "call type is mc, db, http, rpc or mq".
    pub step: String,
    pub rows: u64,
    /// Traces of which at least one row is left; `None` where counting them would need a pass of
    /// its own.
    pub traces: Option<u64>,
}

impl Funnel {
    pub fn push(&mut self, step: impl Into<String>, rows: u64, traces: Option<u64>) {
        self.0.push(FunnelStep { step: step.into(), rows, traces });
    }

    /// A step that leaves `graphs`: a row is a call, a trace a graph.
    pub fn push_graphs(&mut self, step: impl Into<String>, graphs: &[CallGraph]) {
        let calls = graphs.iter().map(|graph| u64::from(graph.num_edges())).sum();
        self.push(step, calls, Some(graphs.len() as u64));
    }
}

impl fmt::Display for Funnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|step| step.step.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:width$}  {:>12} {:>12} {:>12} {:>12}",
            "step", "rows", "dropped", "traces", "dropped"
        )?;
        let mut before: Option<&FunnelStep> = None;
        for step in &self.0 {
            let dropped = before.map(|before| before.rows.saturating_sub(step.rows));
            let traces_dropped = before
                .and_then(|before| before.traces)
                .zip(step.traces)
                .map(|(before, now)| before.saturating_sub(now));
            let cell =
                |value: Option<u64>| value.map_or_else(|| "–".into(), |v: u64| v.to_string());
            writeln!(
                f,
                "{:width$}  {:>12} {:>12} {:>12} {:>12}",
                step.step,
                step.rows,
                cell(dropped),
                cell(step.traces),
                cell(traces_dropped)
            )?;
            before = Some(step);
        }
        Ok(())
    }
}
