//! What answers of language models took, and how much of the model a mask leaves.

use std::collections::BTreeMap;

use super::interval::bootstrap;
use super::{Record, WHOLE};
use crate::graph::{Condition, Generated, Name, Verdict};

/// Mean number of tokens that went through the model per prompt: prompts, answers and forced tokens of
/// all steps and attempts.
///
/// Above 0, lower is better; bootstrap interval over services. The measure of compute that does not
/// depend on the machine.
pub const MODEL_TOKENS: &str = "model-tokens/1";

/// Tokens that went through the model for each accurate answer: all tokens over all accurate answers.
///
/// Above 0, lower is better; bootstrap interval over services. Compares decoding under constraints with
/// drawing until an answer is accurate, at equal compute. NaN without an accurate answer.
pub const TOKENS_PER_ACCURATE: &str = "tokens-per-accurate/1";

/// Mean probability, before the mask and at temperature 1, of the tokens that constrained decoding
/// permits, over all tokens that were drawn.
///
/// Range 0 to 1; higher means that the mask has changed the model's distribution less. Bootstrap
/// interval over services. Tokens to which the format has no alternative are forced without asking the
/// model and do not count. Masking token by token does not give the model's distribution conditioned
/// on being valid: a mask that takes little at each token may still bend the whole (docs/metrics.md).
pub const FEASIBLE_MASS: &str = "feasible-mass/1";

/// Sums over the answers of one service.
#[derive(Clone, Copy, Default)]
struct Sums {
    prompts: f64,
    accurate: f64,
    tokens: f64,
    choices: f64,
    mass: f64,
}

impl Sums {
    fn statistics(&self) -> Vec<f64> {
        let accurate = if self.accurate == 0.0 { f64::NAN } else { self.accurate };
        vec![self.tokens / self.prompts, self.tokens / accurate, self.mass / self.choices]
    }
}

/// The records of answers that took tokens; none for other generators.
pub fn records(
    conditions: &[Condition],
    answers: &[Generated],
    verdicts: &[Verdict],
    seed: u64,
) -> Vec<Record> {
    let mut services: BTreeMap<&Name, Sums> = BTreeMap::new();
    for ((condition, answer), verdict) in conditions.iter().zip(answers).zip(verdicts) {
        let sums = services.entry(&condition.service).or_default();
        sums.prompts += 1.0;
        sums.accurate += f64::from(u8::from(verdict.violation.is_none()));
        sums.tokens += answer.effort.tokens as f64;
        sums.choices += answer.effort.choices as f64;
        sums.mass += answer.effort.feasible_mass;
    }
    let services: Vec<Sums> = services.into_values().collect();
    let weighted = |drawn: &[u32]| {
        let mut sums = Sums::default();
        for (service, times) in services.iter().zip(drawn) {
            let times = f64::from(*times);
            sums.prompts += times * service.prompts;
            sums.accurate += times * service.accurate;
            sums.tokens += times * service.tokens;
            sums.choices += times * service.choices;
            sums.mass += times * service.mass;
        }
        sums
    };
    let whole = weighted(&vec![1; services.len()]);
    if whole.tokens == 0.0 {
        return Vec::new();
    }
    let intervals = bootstrap(seed, services.len(), 3, |drawn| weighted(drawn).statistics());
    let metrics = [MODEL_TOKENS, TOKENS_PER_ACCURATE, FEASIBLE_MASS];
    let values = whole.statistics().into_iter().zip(intervals);
    let count = answers.len() as u64;
    let record = |(metric, (value, interval))| Record::new(metric, WHOLE, value, interval, count);
    let masked = whole.mass < whole.choices;
    let records = metrics.into_iter().zip(values).map(record);
    // Without a mask its mass is 1 and says nothing.
    records.filter(|record| masked || record.metric != FEASIBLE_MASS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{answer, find, flat};
    use crate::graph::{Effort, condition_of, judge_all};

    #[test]
    fn effort_by_hand() {
        let (good, other) = (flat("S_1", 2, 9), flat("S_2", 3, 9));
        let effort = |tokens, choices, feasible_mass| Effort { tokens, choices, feasible_mass };
        let with = |graph, effort| Generated { effort, ..answer(graph) };
        let asked = [condition_of(&good), condition_of(&good), condition_of(&other)];
        let answers = [
            with(&good, effort(30, 10, 9.0)),
            with(&other, effort(40, 10, 5.0)),
            with(&other, effort(20, 5, 5.0)),
        ];
        let verdicts = judge_all(&asked, &answers).unwrap();
        let found = records(&asked, &answers, &verdicts, 1);
        assert_eq!(find(&found, MODEL_TOKENS, "").value, 30.0);
        assert_eq!(find(&found, TOKENS_PER_ACCURATE, "").value, 45.0);
        assert_eq!(find(&found, FEASIBLE_MASS, "").value, 19.0 / 25.0);
        // A model of which nothing is masked has no feasible mass; others have no effort at all.
        let free = [with(&good, effort(30, 10, 10.0))];
        let verdicts = judge_all(&asked[..1], &free).unwrap();
        assert_eq!(records(&asked[..1], &free, &verdicts, 1).len(), 2);
        let none = [answer(&good)];
        assert!(records(&asked[..1], &none, &verdicts, 1).is_empty());
        assert!(records(&[], &[], &[], 1).is_empty());
    }
}
