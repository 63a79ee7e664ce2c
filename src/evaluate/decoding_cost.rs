//! Decoding cost: what answers of language models took, and how much of the model a mask leaves; measured
//! beside every family.

use std::collections::BTreeMap;

use super::answers::ACCURACY;
use super::{Case, Groups, Metric, Record, WHOLE, bootstrap};
use crate::graph::Name;
use crate::report::table::{Cell, Column, Table};
use crate::report::{Entry, Results};

/// Mean number of tokens that went through the model per prompt: prompts, answers and forced tokens of
/// all steps and attempts.
///
/// Above 0, lower is better; bootstrap interval over services. The measure of compute that does not
/// depend on the machine.
pub const MODEL_TOKENS: &Metric =
    &Metric::tokens("model-tokens/1", "tokens per prompt").lower().bootstrap();

/// Tokens that went through the model for each accurate answer: all tokens over all accurate answers.
///
/// Above 0, lower is better; bootstrap interval over services. Compares decoding under constraints with
/// drawing until an answer is accurate, at equal compute. NaN without an accurate answer.
pub const TOKENS_PER_ACCURATE: &Metric =
    &Metric::tokens("tokens-per-accurate/1", "tokens per accurate answer").lower().bootstrap();

/// Mean probability, before the mask and at temperature 1, of the tokens that constrained decoding
/// permits, over all tokens that were drawn.
///
/// Range 0 to 1; higher means that the mask has changed the model's distribution less. Bootstrap
/// interval over services. Tokens to which the format has no alternative are forced without asking the
/// model and do not count. Masking token by token does not give the model's distribution conditioned
/// on being valid: a mask that takes little at each token may still bend the whole (docs/metrics.md).
pub const FEASIBLE_MASS: &Metric =
    &Metric::plain("allowed-mass/1", "probability mass of allowed tokens").higher().bootstrap();

/// Descriptions of the metrics of this module.
pub const METRICS: &[&Metric] = &[MODEL_TOKENS, TOKENS_PER_ACCURATE, FEASIBLE_MASS];

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
pub fn records(case: &Case) -> Vec<Record> {
    let mut services: BTreeMap<&Name, Sums> = BTreeMap::new();
    let judged = case.conditions.iter().zip(case.answers).zip(case.verdicts);
    for ((condition, answer), verdict) in judged {
        let sums = services.entry(&condition.service).or_default();
        sums.prompts += 1.0;
        sums.accurate += f64::from(u8::from(verdict.violation.is_none()));
        sums.tokens += answer.cost.tokens as f64;
        sums.choices += answer.cost.choices as f64;
        sums.mass += answer.cost.allowed_mass;
    }
    let groups = Groups::named(case.seed, services.keys().map(|name| name.as_str()));
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
    let values = bootstrap(groups, |drawn| weighted(drawn).statistics());
    let count = case.answers.len() as u64;
    let masked = whole.mass < whole.choices;
    let records = METRICS
        .iter()
        .zip(values)
        .map(|(metric, estimate)| Record::estimated(metric, WHOLE, estimate, count));
    // Without a mask its mass is 1 and says nothing.
    records.filter(|record| masked || record.metric != FEASIBLE_MASS).collect()
}

/// What answers took in tokens, and what a mask left of the model; `None` where no variant is a language
/// model.
pub fn table(results: &Results) -> Option<Table> {
    let entries = [
        Entry::new(ACCURACY.title, ACCURACY, WHOLE),
        Entry::new(MODEL_TOKENS.title, MODEL_TOKENS, WHOLE),
        Entry::new(TOKENS_PER_ACCURATE.title, TOKENS_PER_ACCURATE, WHOLE),
        Entry::new(FEASIBLE_MASS.title, FEASIBLE_MASS, WHOLE),
    ];
    let found = results.find(&entries);
    let models = results.only(|variant| found.estimate(variant, 1).is_some());
    let mut table = results.headed("Decoding cost", [Column::text("generator")], &entries);
    models.add_rows(&mut table, &[], &entries, |label, variant| {
        let checkpoint = variant.map(|variant| variant.at_tokens()).unwrap_or_default();
        vec![Cell::text(format!("{label}{checkpoint}"))]
    });
    table.notes.push(
        "Tokens that went through the model: prompts, answers and forced tokens of all steps and attempts. Probability mass of allowed tokens: probability that the unmasked model gave the tokens that constrained decoding permitted, mean over the tokens that were drawn; where it is far below 1 the mask, and not the model, made the answers valid."
            .to_owned(),
    );
    table.notes.extend(results.notes());
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{answer, dataset, find, flat};
    use crate::graph::{Condition, DecodingCost, Generated, condition_of, judge_all};

    #[test]
    fn decoding_cost_by_hand() {
        let (good, other) = (flat("S_1", 2, 9), flat("S_2", 3, 9));
        let cost = |tokens, choices, allowed_mass| DecodingCost { tokens, choices, allowed_mass };
        let with = |graph, cost| Generated { cost, ..answer(graph) };
        let asked = [condition_of(&good), condition_of(&good), condition_of(&other)];
        let answers = [
            with(&good, cost(30, 10, 9.0)),
            with(&other, cost(40, 10, 5.0)),
            with(&other, cost(20, 5, 5.0)),
        ];
        let dataset = dataset(Vec::new(), Vec::new());
        let of = |asked: &[Condition], answers: &[Generated]| {
            let verdicts = judge_all(asked, answers).unwrap();
            let (dataset, verdicts) = (&dataset, verdicts.as_slice());
            let likelihoods = None;
            let (conditions, compared) = (asked, 50);
            let case =
                Case { dataset, conditions, answers, verdicts, likelihoods, compared, seed: 1 };
            records(&case)
        };
        let found = of(&asked, &answers);
        assert_eq!(find(&found, MODEL_TOKENS, "").value, 30.0);
        assert_eq!(find(&found, TOKENS_PER_ACCURATE, "").value, 45.0);
        assert_eq!(find(&found, FEASIBLE_MASS, "").value, 19.0 / 25.0);
        // Without a mask there is no mass of allowed tokens; other generators have no cost at all.
        let free = [with(&good, cost(30, 10, 10.0))];
        assert_eq!(of(&asked[..1], &free).len(), 2);
        let none = [answer(&good)];
        assert!(of(&asked[..1], &none).is_empty());
        assert!(of(&[], &[]).is_empty());
    }
}
