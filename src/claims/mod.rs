//! Whole reports: the tables and figures of a metric family, the paper's claims beside them, what answers
//! and trainings cost, and variants compared.

use std::sync::LazyLock;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::evaluate::{Dimensions, Metric, Report, decoding_cost, metric};
use crate::number;
use crate::report::figure::Bounded;
use crate::report::table::{Cell, Column, Table};
use crate::report::{
    COST, DeclaredPair, Entry, Found, ReportFiles, ReportInput, Results, Variant, cell_or_missing,
    cost_table, differences,
};

/// Draws the reports of an experiment. Failed runs are shown as such.
pub fn draw(reports: &[&Report], input: &ReportInput) -> ReportFiles {
    let results = Results::new(*input);
    let mut files = ReportFiles::default();
    let (mut claims, mut compared, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for report in reports {
        files.add((report.draw)(&results));
        claims.extend_from_slice(report.claims);
        columns.push((report.columns)(&results));
        for one in report.compared {
            if !compared.contains(one) {
                compared.push(*one);
            }
        }
    }
    if !claims.is_empty() {
        files.table("published", compare(&results, &claims));
    }
    if let Some(table) = decoding_cost::table(&results) {
        files.table("decoding-cost", table);
    }
    files.table(COST, cost_table(&results));
    let pairs = match input.pairs {
        Some(declared) => declared.to_vec(),
        None => DeclaredPair::usual().into_iter().chain(published_pairs(&claims)).collect(),
    };
    files.add(differences(&results, &pairs, &compared, &columns));
    files
}

/// The pairs that the paper compares in these claims.
fn published_pairs(claims: &[&str]) -> Vec<DeclaredPair> {
    let claims = claims.iter().filter_map(|id| CLAIMS.get(*id));
    let pairs = claims.filter_map(|claim| {
        let other = claim.above.as_ref()?;
        Some(DeclaredPair::of(&claim.generator, other))
    });
    pairs.collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    claim: Vec<Claim>,
}

/// One published number or order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    id: String,
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

const TEXT: &str = include_str!("published.toml");

/// What the paper published, by id.
static CLAIMS: LazyLock<IndexMap<String, Claim>> = LazyLock::new(|| {
    let published: Published = toml::from_str(TEXT).expect("a test reads the embedded claims");
    published.claim.into_iter().map(|claim| (claim.id.clone(), claim)).collect()
});

/// Hash of what reports are made of besides code.
pub fn compiled_in() -> String {
    blake3::hash(TEXT.as_bytes()).to_hex().to_string()
}

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

/// The claims of these ids, each with our number and a verdict.
///
/// A published value agrees if it lies in our 95 % interval (one of its last digits is allowed for
/// rounding); a bound agrees if our value keeps it; an order agrees if our intervals do not overlap
/// and lie that way round.
fn compare(results: &Results, ids: &[&str]) -> Table {
    let mut table = Table::new(
        results.titled("Published values beside ours"),
        vec![
            Column::text("source"),
            Column::text("published claim"),
            Column::number("published", ""),
            Column::estimate("ours", ""),
            Column::text("verdict"),
            Column::text("reason"),
        ],
    );
    let claims = ids.iter().filter_map(|id| CLAIMS.get(*id));
    let claims: Vec<&Claim> = claims.filter(|claim| claim.is_asked(results)).collect();
    let entries: Vec<Entry> = claims
        .iter()
        .filter_map(|claim| Some(Entry::new("", metric(&claim.metric)?, claim.dimensions.clone())))
        .collect();
    let found = results.find(&entries);
    for (place, (claim, Entry { metric, .. })) in claims.iter().zip(&entries).enumerate() {
        let (ours, verdict) = claim.judge(&Ours { results, found: &found, place });
        table.push(vec![
            Cell::text(&claim.source),
            Cell::text(&claim.claim),
            Cell::text(claim.published(metric)),
            cell_or_missing(metric, ours),
            Cell::text(verdict.word),
            Cell::text(verdict.reason),
        ]);
    }
    table.notes.push(PAPER.into());
    table.notes.push("Fractions in %; KL in nats.".into());
    table.notes.extend(results.notes());
    table
}

/// Our numbers for one claim.
struct Ours<'a> {
    results: &'a Results<'a>,
    found: &'a Found,
    /// The claim's place among those that were asked for.
    place: usize,
}

impl Ours<'_> {
    /// The number of a generator: its coldest variant, the last of its checkpoints.
    fn of(&self, generator: &str) -> Result<Bounded, String> {
        let tokens = |variant: &Variant| variant.tokens.unwrap_or(u64::MAX);
        let variants = self.results.variants.iter();
        let variant = variants
            .filter(|variant| variant.generator == generator)
            .min_by(|one, other| {
                let last_first = tokens(other).cmp(&tokens(one));
                one.temperature.total_cmp(&other.temperature).then(last_first)
            })
            .ok_or_else(|| format!("this run has no `{generator}`"))?;
        if let Some(reason) = variant.failure() {
            return Err(format!("`{generator}` failed: {reason}"));
        }
        match self.found.estimate(variant, self.place) {
            Some(ours) if !ours.value.is_nan() => Ok(ours),
            Some(_) => Err("the number is degenerate on this dataset".to_owned()),
            None => Err("this run did not ask for it".to_owned()),
        }
    }
}

impl Claim {
    /// Whether the experiment can speak to it: it may be about another, or about another task.
    fn is_asked(&self, results: &Results) -> bool {
        let here = self.experiment.as_ref().is_none_or(|id| id == results.input.experiment);
        let Some(metric) = metric(&self.metric).filter(|_| here) else { return false };
        let tasks = results.values(metric, |about| about.task);
        let of_task = |task| tasks.is_empty() || tasks.contains(task);
        self.dimensions.task.as_ref().is_none_or(of_task)
    }

    /// The published number as text.
    fn published(&self, metric: &Metric) -> String {
        let number = |value: f64| match metric.unit.heading() {
            "%" => number::short(value * 100.0),
            "points" => number::short(value),
            _ => value.to_string(),
        };
        match (self.value, self.at_least, self.at_most, &self.above) {
            (Some(value), ..) => number(value),
            (_, Some(bound), ..) => format!("≥ {}", number(bound)),
            (_, _, Some(bound), _) => format!("≤ {}", number(bound)),
            (.., Some(other)) => format!("> {other}"),
            _ => String::new(),
        }
    }

    fn judge(&self, numbers: &Ours) -> (Option<Bounded>, Verdict) {
        const NOT: &str = "not comparable";
        let ours = match numbers.of(&self.generator) {
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
            match numbers.of(other) {
                Ok(other) => judge_order(ours, other),
                Err(reason) => Verdict::new(NOT, reason),
            }
        } else {
            Verdict::new(NOT, "no number")
        };
        (Some(ours), verdict)
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
    if kept {
        return Verdict::new("agrees", format!("the bound is kept{unclear}"));
    }
    Verdict::new("differs", format!("the bound is missed{unclear}; other data and model size"))
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
mod tests;
#[cfg(test)]
mod verdict_tests {
    use super::*;
    use crate::evaluate::FAMILIES;

    #[test]
    fn the_table_parses_and_every_claim_has_one_number() {
        let of_families = FAMILIES.iter().flat_map(|family| family.reports);
        let listed: Vec<&str> = of_families.flat_map(|report| report.claims).copied().collect();
        for id in &listed {
            assert!(CLAIMS.contains_key(*id), "no claim `{id}`");
        }
        let claims: Published = toml::from_str(TEXT).expect("valid TOML");
        assert_eq!(claims.claim.len(), CLAIMS.len(), "two claims of one id");
        for claim in &claims.claim {
            assert!(listed.contains(&claim.id.as_str()), "{} belongs to no report", claim.id);
            let numbers = [claim.value, claim.at_least, claim.at_most].iter().flatten().count();
            assert_eq!(numbers + usize::from(claim.above.is_some()), 1, "{claim:?}");
            // A name that no baseline has would never be compared.
            for name in std::iter::once(&claim.generator).chain(&claim.above) {
                // A probe's variants are baselines with what was done to them.
                let name = name.split('+').next().unwrap_or(name);
                let file = format!("{}/baselines/{name}.toml", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&file).exists(), "{claim:?}");
            }
            assert!(metric(&claim.metric).is_some(), "{claim:?}");
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
