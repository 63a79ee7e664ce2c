//! The paper's published values beside ours.

use serde::Deserialize;

use super::ReportInput;
use super::arms::{Arm, family, table_cell, unit};
use super::figure::Bounded;
use super::notes::notes;
use super::table::{Cell, Column, Table};
use crate::evaluate::Dimensions;
use crate::evaluate::metric::Family;
use crate::{number, probes};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    claim: Vec<Claim>,
}

/// One published number or order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// Figure or table of the paper.
    source: String,
    claim: String,
    generator: String,
    metric: String,
    #[serde(default)]
    dimensions: Dimensions,
    value: Option<f64>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    above: Option<String>,
    /// The one experiment that asks what the paper asked, where another with the same cells does not.
    experiment: Option<String>,
}

/// What the paper published.
pub const CLAIMS: &str = include_str!("published.toml");

/// What came of a comparison, and why.
struct Verdict {
    word: &'static str,
    reason: String,
}

impl Verdict {
    fn new(word: &'static str, reason: impl Into<String>) -> Self {
        Self { word, reason: reason.into() }
    }
}

/// What the paper trained on.
const PAPER: &str = "The paper trained Llama-2 7B on 1.36 million graphs of alibaba-v2022 with instruction tuning (its recursive row is the tuned model); this run used other data and smaller models. `agrees` and `differs` compare numbers, they do not confirm or refute the paper.";

/// The claims that the report of this kind can speak to, each with our number and a verdict.
///
/// A published value agrees if it lies in our 95 % interval (one of its last digits is allowed for
/// rounding); a bound agrees if our value keeps it; an order agrees if our intervals do not overlap
/// and lie that way round.
pub fn compare(input: &ReportInput, arms: &[Arm], of: Family) -> Table {
    compare_claims(input, arms, |claim| family(&claim.metric) == Some(of))
}

/// As [`compare`], for the claims about a downstream task.
pub fn compare_task(input: &ReportInput, arms: &[Arm], task: &str) -> Table {
    compare_claims(input, arms, |claim| {
        family(&claim.metric) == Some(Family::Downstream)
            && claim.dimensions.task.as_deref() == Some(task)
    })
}

fn compare_claims(input: &ReportInput, arms: &[Arm], belongs: impl Fn(&Claim) -> bool) -> Table {
    let mut table = Table::new(
        format!("Published values beside ours: {}", input.title),
        vec![
            Column::text("source"),
            Column::text("published claim"),
            Column::number("published", ""),
            Column::estimate("ours", ""),
            Column::text("verdict"),
            Column::text("reason"),
        ],
    );
    // Probes share a metric and differ in the task.
    let asked = |claim: &Claim| {
        let of_task = |arm: &Arm| arm.dimensions_of(&claim.metric).contains(&&claim.dimensions);
        let here = claim.experiment.as_ref().is_none_or(|id| id == input.experiment);
        here && (claim.metric != probes::ACCURACY || arms.iter().any(of_task))
    };
    for claim in claims().into_iter().filter(|claim| belongs(claim) && asked(claim)) {
        let (ours, verdict) = claim.judge(arms);
        table.push(vec![
            Cell::text(&claim.source),
            Cell::text(&claim.claim),
            Cell::text(claim.published()),
            ours.map_or(Cell::Missing, |ours| table_cell(&claim.metric, ours)),
            Cell::text(verdict.word),
            Cell::text(verdict.reason),
        ]);
    }
    table.notes.push(PAPER.into());
    table.notes.push("Shares in %; KL in nats.".into());
    table.notes.extend(notes(input, arms));
    table
}

fn claims() -> Vec<Claim> {
    // Embedded and covered by a test: it cannot fail at run time.
    toml::from_str::<Published>(CLAIMS).map_or_else(|_| Vec::new(), |p| p.claim)
}

impl Claim {
    fn number(&self, value: f64) -> String {
        match unit(&self.metric) {
            "%" => number::short(value * 100.0),
            "points" => number::short(value),
            _ => value.to_string(),
        }
    }

    /// The published number as text.
    fn published(&self) -> String {
        match (self.value, self.at_least, self.at_most, &self.above) {
            (Some(value), ..) => self.number(value),
            (_, Some(bound), ..) => format!("≥ {}", self.number(bound)),
            (_, _, Some(bound), _) => format!("≤ {}", self.number(bound)),
            (.., Some(other)) => format!("> {other}"),
            _ => String::new(),
        }
    }

    fn judge(&self, arms: &[Arm]) -> (Option<Bounded>, Verdict) {
        const NOT: &str = "not comparable";
        let ours = match self.find(&self.generator, arms) {
            Ok(ours) => ours,
            Err(reason) => return (None, Verdict::new(NOT, reason)),
        };
        let verdict = if let Some(value) = self.value {
            judge_value(value, ours)
        } else if let Some(bound) = self.at_least {
            judge_bound(ours.value >= bound, bound, ours)
        } else if let Some(bound) = self.at_most {
            judge_bound(ours.value <= bound, bound, ours)
        } else if let Some(other) = &self.above {
            match self.find(other, arms) {
                Ok(other) => judge_order(ours, other),
                Err(reason) => Verdict::new(NOT, reason),
            }
        } else {
            Verdict::new(NOT, "no number")
        };
        (Some(ours), verdict)
    }

    /// The number of a generator: its coldest arm, the last of its snapshots.
    fn find(&self, generator: &str, arms: &[Arm]) -> Result<Bounded, String> {
        let of_generator = arms.iter().filter(|arm| arm.generator == generator);
        let arm = of_generator
            .min_by(|one, other| {
                let snapshots =
                    other.tokens.unwrap_or(u64::MAX).cmp(&one.tokens.unwrap_or(u64::MAX));
                one.temperature.total_cmp(&other.temperature).then(snapshots)
            })
            .ok_or_else(|| format!("this run has no `{generator}`"))?;
        if let Some(reason) = arm.failure() {
            return Err(format!("`{generator}` failed: {reason}"));
        }
        match arm.estimate(&self.metric, &self.dimensions) {
            Some(ours) if !ours.value.is_nan() => Ok(ours),
            Some(_) => Err("the number is degenerate on this dataset".to_owned()),
            None => Err("this run did not ask for it".to_owned()),
        }
    }
}

fn judge_value(published: f64, ours: Bounded) -> Verdict {
    // Half a unit of the second decimal, to which the paper rounds.
    let slack = 0.005;
    if ours.low.is_nan() || ours.high.is_nan() {
        return Verdict::new("not comparable", "our number has no interval");
    }
    if (ours.low - slack..=ours.high + slack).contains(&published) {
        Verdict::new("agrees", "inside our interval")
    } else if ours.value > published {
        Verdict::new("differs", "ours is larger; other data and model size")
    } else {
        Verdict::new("differs", "ours is smaller; other data and model size")
    }
}

fn judge_bound(kept: bool, bound: f64, ours: Bounded) -> Verdict {
    let unclear = (ours.low..=ours.high).contains(&bound);
    let unclear = if unclear { ", but the bound lies in our interval" } else { "" };
    match kept {
        true => Verdict::new("agrees", format!("the bound is kept{unclear}")),
        false => Verdict::new(
            "differs",
            format!("the bound is missed{unclear}; other data and model size"),
        ),
    }
}

fn judge_order(larger: Bounded, smaller: Bounded) -> Verdict {
    let text = |value: Bounded| number::print(value.value);
    let values = format!("{} against {}", text(larger), text(smaller));
    if larger.low > smaller.high {
        Verdict::new("agrees", values)
    } else if larger.high < smaller.low {
        Verdict::new("differs", format!("{values}: the other way round"))
    } else {
        Verdict::new("not comparable", format!("{values}: our intervals overlap"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_parses_and_every_claim_has_one_number() {
        let claims: Published = toml::from_str(CLAIMS).expect("valid TOML");
        for claim in &claims.claim {
            let numbers = [claim.value, claim.at_least, claim.at_most].iter().flatten().count();
            assert_eq!(numbers + usize::from(claim.above.is_some()), 1, "{claim:?}");
            // A name that no baseline has would never be compared.
            for name in std::iter::once(&claim.generator).chain(&claim.above) {
                // A probe's arms are baselines with what was done to them.
                let name = name.split('+').next().unwrap_or(name);
                let file = format!("{}/baselines/{name}.toml", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&file).exists(), "{claim:?}");
            }
            assert!(family(&claim.metric).is_some(), "{claim:?}");
        }
    }

    #[test]
    fn verdicts() {
        let ours = |value, low, high| Bounded { value, low, high };
        assert_eq!(judge_value(0.16, ours(0.2, 0.1, 0.3)).word, "agrees");
        assert_eq!(judge_value(0.16, ours(0.2, 0.163, 0.3)).word, "agrees");
        assert_eq!(judge_value(0.16, ours(0.3, 0.2, 0.4)).word, "differs");
        assert_eq!(judge_value(0.16, ours(0.3, f64::NAN, f64::NAN)).word, "not comparable");
        let (small, large) = (ours(0.2, 0.1, 0.3), ours(0.8, 0.7, 0.9));
        assert_eq!(judge_order(large, small).word, "agrees");
        assert_eq!(judge_order(small, large).word, "differs");
        assert_eq!(judge_order(small, ours(0.3, 0.2, 0.4)).word, "not comparable");
    }
}
