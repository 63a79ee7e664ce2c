//! What the harness makes of one answer: a graph or a violation, decided here and nowhere else.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::generators::{Condition, Generated};
use crate::graph::{CallGraph, ViolationCode};

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
    use crate::evaluate::conditions::condition_of;
    use crate::graph::Violation;
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
