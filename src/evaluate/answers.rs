//! What every evaluation knows of each answer: whether it is valid, and whether it is what was asked for.

use super::{Case, Metric, PromptScores, Record, WHOLE};
use crate::graph::{Condition, Verdict};
use crate::report::Compared;

/// Share of prompts answered with a valid graph, whether or not it is what was asked for: the
/// generator reported no failure, and the constraints on a whole graph hold (paper, section 1).
/// Range 0 to 1, higher is better; Wilson interval.
///
/// Pitfall: validity can be had by construction, as for `probabilistic` and `training-set-copy`.
pub const VALID: &Metric = &Metric::fraction("valid/1", "valid").higher().wilson();

/// Share of prompts whose answer is a complete, valid graph with the requested num_edges and
/// depth (paper, section 5; figures 3 and 12).
///
/// Range 0 to 1, higher is better; Wilson interval. An attribute that the prompt leaves open is
/// not compared, and latency, an upper bound only, never is. Prompts are treated as independent.
///
/// Pitfalls: accuracy can be had without learning (constrained decoding reaches 100 %), so it
/// means nothing without the fidelity metrics; at 50 samples one cell's interval is ±14 points, so
/// read rows, columns and the whole; most cells of a grid may have no training graph, so read it
/// by `train-graphs` too.
pub const ACCURACY: &Metric =
    &Metric::fraction("accuracy/1", "condition accuracy").higher().wilson();

/// Descriptions of the metrics of this module.
pub const METRICS: &[&Metric] = &[VALID, ACCURACY];

/// Comparisons of variants by both.
pub const COMPARED: &[Compared] = &[("valid", VALID), ("condition accuracy", ACCURACY)];

/// Valid answers among all prompts.
pub fn valid(case: &Case) -> Record {
    Record::share(VALID, WHOLE, case.valid().count() as u64, case.verdicts.len() as u64)
}

/// Accurate answers among all prompts.
pub fn accurate(case: &Case) -> Record {
    let hits = case.verdicts.iter().filter(|verdict| verdict.violation.is_none()).count();
    Record::share(ACCURACY, WHOLE, hits as u64, case.verdicts.len() as u64)
}

/// The prompts with [`VALID`] and [`ACCURACY`], 1 or 0.
pub fn prompt_scores(conditions: &[Condition], verdicts: &[Verdict]) -> PromptScores {
    let mut scores = PromptScores::of(
        conditions.iter().map(fingerprint).collect(),
        conditions.iter().map(|condition| condition.service.clone()).collect(),
    );
    let hits = |hit: fn(&Verdict) -> bool| {
        verdicts.iter().map(|verdict| f64::from(u8::from(hit(verdict)))).collect()
    };
    scores.add(VALID, hits(|verdict| verdict.graph.is_some()));
    scores.add(ACCURACY, hits(|verdict| verdict.violation.is_none()));
    scores
}

/// The same for the same condition, on every machine.
fn fingerprint(condition: &Condition) -> u64 {
    // A struct of names and numbers is always JSON.
    let text = serde_json::to_vec(condition).unwrap_or_default();
    let hash = blake3::hash(&text);
    hash.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{answer, dataset, failed, find, flat};
    use crate::evaluate::{fidelity, score};
    use crate::graph::{Name, condition_of};

    #[test]
    fn means_of_columns_are_the_records() {
        let (pair, wide) = (flat("S_1", 2, 9), flat("S_2", 3, 9));
        let asked = [&pair, &wide, &wide].map(condition_of);
        let answers = [answer(&pair), answer(&pair), failed()];
        let dataset = dataset(Vec::new(), vec![pair]);
        let scores = score(&fidelity::FAMILY, &dataset, &asked, &answers, None, 50, 1).unwrap();
        let of_prompts = scores.of_prompts;
        let metrics: Vec<&Metric> = of_prompts.columns().map(|(metric, _)| metric).collect();
        assert_eq!(metrics, [VALID, ACCURACY]);
        for metric in metrics {
            let values = of_prompts.column(metric).unwrap();
            let mean = values.iter().sum::<f64>() / 3.0;
            assert_eq!(mean, find(&scores.records, metric, "").value);
        }
        assert_eq!(of_prompts.column(VALID).unwrap(), [1.0, 1.0, 0.0]);
        assert_eq!(of_prompts.services, ["S_1", "S_2", "S_2"].map(Name::from));
        assert_eq!(of_prompts.prompts[1], of_prompts.prompts[2]);
        assert_ne!(of_prompts.prompts[0], of_prompts.prompts[1]);
    }
}
