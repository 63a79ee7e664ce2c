//! The task that generators are given: a condition, the answer to it, and what the harness makes of it.
//!
//! It lies with the graphs, below everything that speaks of it: texts, models, generators and metrics.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{CallGraph, CallRow, Name, Request, Violation, ViolationCode};

/// What a prompt asks for: a graph of `service` with these attributes; `None` leaves one open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Condition {
    pub service: Name,
    pub num_edges: Option<u32>,
    pub depth: Option<u32>,
    /// Finish of the root call, milliseconds.
    pub latency: Option<u32>,
    /// Wishes in words, for generators that follow instructions; the others ignore them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Request>,
}

/// The condition that a graph answers perfectly.
pub fn condition_of(graph: &CallGraph) -> Condition {
    Condition {
        service: graph.service().clone(),
        num_edges: Some(graph.num_edges()),
        depth: Some(graph.depth()),
        latency: Some(graph.latency()),
        requests: Vec::new(),
    }
}

/// Whether a graph can have so many calls and this depth.
pub fn is_feasible(edges: u32, depth: u32) -> bool {
    (1..=edges).contains(&depth) && (depth == 1) == (edges == 1)
}

/// Feasible pairs of num_edges up to `max_edges` and depth up to `max_depth`, in order of edges, then
/// depth: a tree of more than one call has depth 2 at least.
pub fn grid_cells(max_edges: u32, max_depth: u32) -> impl Iterator<Item = (u32, u32)> {
    (1..=max_edges).flat_map(move |edges| {
        let depths = (1..=max_depth.min(edges)).filter(move |depth| is_feasible(edges, *depth));
        depths.map(move |depth| (edges, depth))
    })
}

/// The pairs of [`grid_cells`] that an experiment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub max_edges: u32,
    pub max_depth: u32,
    /// Whether service and latency are those of graphs of other shapes.
    pub is_borrowed: bool,
}

/// A generator's answer to one condition.
///
/// The harness checks the rows itself; a generator need not know what is valid. `failure` is for
/// what the rows cannot show (a reply that does not parse), and comes with the calls that were
/// understood before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    pub rows: Vec<CallRow>,
    pub failure: Option<Violation>,
    pub cost: DecodingCost,
}

impl Generated {
    /// An answer without failure.
    pub fn complete(rows: Vec<CallRow>) -> Self {
        Self { rows, ..Self::default() }
    }
}

/// What an answer of a language model took; zero for other generators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecodingCost {
    /// Tokens that went through the model: prompts and answers, forced tokens included.
    pub tokens: u64,
    /// Tokens that were drawn from the model's distribution.
    pub choices: u64,
    /// Sum over the choices of the probability, before any mask and at temperature 1, of the tokens
    /// that were permitted. Equal to `choices` where nothing is masked.
    pub allowed_mass: f64,
}

impl std::ops::AddAssign for DecodingCost {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.choices += other.choices;
        self.allowed_mass += other.allowed_mass;
    }
}

/// An answer, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The graph, if the generator reported no failure and the rows keep every constraint on a
    /// whole graph (paper, section 1). It need not be what was asked for.
    pub graph: Option<CallGraph>,
    /// What is wrong first, in this order: the generator's own failure; a constraint on the graph;
    /// num_edges unlike the request's; depth unlike the request's. `None` is an accurate answer.
    pub violation: Option<ViolationCode>,
}

/// Judges one answer to `condition`. A graph belongs to the service it was asked for.
pub fn judge(condition: &Condition, answer: &Generated) -> Verdict {
    if let Some(failure) = &answer.failure {
        return Verdict { graph: None, violation: Some(failure.code) };
    }
    let graph = match CallGraph::from_rows(condition.service.clone(), &answer.rows) {
        Ok(graph) => graph,
        Err(violations) => {
            return Verdict { graph: None, violation: violations.first().map(|first| first.code) };
        }
    };
    let violation = if condition.num_edges.is_some_and(|wanted| wanted != graph.num_edges()) {
        Some(ViolationCode::RequestEdges)
    } else if condition.depth.is_some_and(|wanted| wanted != graph.depth()) {
        Some(ViolationCode::RequestDepth)
    } else {
        None
    };
    Verdict { graph: Some(graph), violation }
}

/// Judges all answers, in order.
///
/// # Errors
/// A generator that did not give exactly one answer per condition.
pub fn judge_all(conditions: &[Condition], answers: &[Generated]) -> Result<Vec<Verdict>> {
    ensure!(
        conditions.len() == answers.len(),
        "{} answers to {} conditions: a generator gives exactly one each",
        answers.len(),
        conditions.len()
    );
    let pairs = conditions.par_iter().zip(answers);
    Ok(pairs.map(|(condition, answer)| judge(condition, answer)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    #[test]
    fn the_first_violation_counts() {
        use ViolationCode::*;
        let graph = paper_example();
        let asked = condition_of(&graph);
        let code = |condition: &Condition, answer: Generated| judge(condition, &answer).violation;
        let whole = || Generated::complete(graph.rows());
        assert_eq!(code(&asked, whole()), None);
        let other = Condition { num_edges: Some(8), depth: Some(9), ..asked.clone() };
        assert_eq!(code(&other, whole()), Some(RequestEdges));
        let other = Condition { num_edges: None, depth: Some(9), ..asked.clone() };
        assert_eq!(code(&other, whole()), Some(RequestDepth));
        let late = Condition { latency: Some(1), ..asked.clone() };
        assert_eq!(code(&late, whole()), None);
        let broken = Generated::complete(graph.rows()[1..].to_vec());
        assert_eq!(code(&asked, broken.clone()), Some(NoRoot));
        let failed = Generated { failure: Some(Violation::new(EdgeSum, "")), ..broken };
        assert_eq!(code(&asked, failed), Some(EdgeSum));
        assert_eq!(code(&asked, Generated::default()), Some(Empty));
        assert!(judge_all(&[asked], &[]).is_err());
    }
}
