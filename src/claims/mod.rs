//! Whole reports: the tables and figures of a metric family, the paper's claims beside them, what answers
//! and trainings cost, and variants compared.

mod verdict;

use std::sync::LazyLock;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::evaluate::{Dimensions, Metric, Report, decoding_cost, metric};
use crate::number;
use crate::records::Unit;
use crate::report::figure::Bounded;
use crate::report::statistics::independent;
use crate::report::table::{Cell, Column, Table};
use crate::report::{
    COST, DeclaredPair, Entry, Field, Found, Numbers, ReportFiles, ReportInput, Results, Variant,
    cell_or_missing, cost_table, differences,
};
use verdict::{Order, Region, Verdict, Word, at_all};

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
    let field = Field::new(&results);
    if let Some(table) = compare(&field, &results, &claims) {
        files.table("published", table);
    }
    if let Some(table) = decoding_cost::table(&results) {
        files.table("decoding-cost", table);
    }
    files.table(COST, cost_table(&results));
    let pairs = match input.pairs {
        Some(declared) => declared.to_vec(),
        None => DeclaredPair::usual().into_iter().chain(published_pairs(&claims)).collect(),
    };
    files.add(differences(&field, &pairs, &compared, &columns));
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

/// One published number or order. It is judged in one experiment, that which asks what the paper asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    id: String,
    /// Figure or table of the paper.
    source: String,
    claim: String,
    experiment: String,
    generator: String,
    metric: String,
    #[serde(default)]
    dimensions: Dimensions,
    /// The sampling temperature that it was made at, where the experiment has several; at all of them
    /// where it is absent.
    temperature: Option<f64>,
    value: Option<f64>,
    /// What is as good as equal to `value`; by the metric's unit where it is absent.
    within: Option<f64>,
    range: Option<[f64; 2]>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    /// Whether the bound is about the difference from this row of real graphs.
    minus_reference: Option<String>,
    /// The generator whose number is smaller.
    above: Option<String>,
    /// By how much it is smaller at least.
    by: Option<f64>,
    /// How many times as large the number is at least.
    times: Option<f64>,
    /// What real graphs must reach for the claim to mean anything.
    signal: Option<Signal>,
    /// A generator that must not agree for the agreement to mean anything.
    beside: Option<String>,
}

/// A number of real graphs, and what it is by chance.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signal {
    metric: String,
    reference: String,
    chance: f64,
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

/// What the paper trained on.
const PAPER: &str = "The paper trained Llama-2 7B on 1.36 million graphs of alibaba-v2022 with instruction tuning (its recursive row is the tuned model); this run used other data and smaller models. `agrees` and `differs` compare numbers, they do not confirm or refute the paper.";

/// The claims of these ids that the experiment can speak to, each with our number and a verdict.
fn compare(field: &Field, results: &Results, ids: &[&str]) -> Option<Table> {
    let mut table = Table::new(
        results.titled("Published values beside ours"),
        vec![
            Column::text("source"),
            Column::text("published claim"),
            Column::number("published", ""),
            Column::estimate("ours", ""),
            Column::text("order"),
            Column::text("verdict"),
            Column::text("reason"),
        ],
    );
    let claims = ids.iter().filter_map(|id| CLAIMS.get(*id));
    let claims: Vec<&Claim> =
        claims.filter(|claim| claim.experiment == results.input.experiment).collect();
    if claims.is_empty() {
        return None;
    }
    for claim in claims {
        let Some(metric) = metric(&claim.metric) else { continue };
        let ours = Ours::new(field, results, claim, metric);
        let Judged { number, order, verdict } = claim.judge(&ours);
        table.push(vec![
            Cell::text(&claim.source),
            Cell::text(&claim.claim),
            Cell::text(claim.published(metric)),
            cell_or_missing(metric, number),
            order.map_or(Cell::Missing, |order| Cell::text(order.as_str())),
            Cell::text(verdict.word.as_str()),
            Cell::text(verdict.reason),
        ]);
    }
    table.notes.push(PAPER.into());
    table.notes.push("agrees: our 95 % interval lies within what the claim allows (of a value, what is as good as equal to it); differs: it lies outside; inconclusive: it does both, so that a wider interval never agrees with more. Order: whether the interval of the difference, of both on the same prompts or draws of services, excludes 0 on the claim's side (kept), on the other (reversed), or does not (open). vacuous: what should not agree does so too. no signal: models trained on real graphs are at chance.".into());
    table.notes.push("Fractions in %, their differences in points; KL in nats.".into());
    table.notes.extend(results.notes());
    Some(table)
}

/// What a claim comes to.
struct Judged {
    number: Option<Bounded>,
    order: Option<Order>,
    verdict: Verdict,
}

impl Judged {
    fn none(reason: impl Into<String>) -> Self {
        let verdict = Verdict::new(Word::NotComparable, reason);
        Self { number: None, order: None, verdict }
    }
}

/// Our numbers for one claim.
struct Ours<'a> {
    field: &'a Field<'a>,
    results: &'a Results<'a>,
    claim: &'a Claim,
    metric: &'static Metric,
    /// The claim's number of generators.
    found: Found,
    /// The same of the row of real graphs, if the claim is about the difference from it.
    reference: Option<Found>,
}

impl<'a> Ours<'a> {
    fn new(
        field: &'a Field<'a>,
        results: &'a Results<'a>,
        claim: &'a Claim,
        metric: &'static Metric,
    ) -> Self {
        let about = claim.dimensions.clone();
        let reference = claim.minus_reference.as_ref().map(|name| {
            results.find(&[Entry::new("", metric, about.clone().reference(name.as_str()))])
        });
        let found = results.find(&[Entry::new("", metric, about)]);
        Self { field, results, claim, metric, found, reference }
    }

    /// The variants of a generator at the claim's temperature, the last of their checkpoints; coldest first.
    fn variants(&self, generator: &str) -> Result<Vec<usize>, String> {
        let variants = &self.results.variants;
        let mut places: Vec<usize> =
            (0..variants.len()).filter(|at| variants[*at].generator == generator).collect();
        if places.is_empty() {
            return Err(format!("this run has no `{generator}`"));
        }
        let tokens = |variant: &Variant| variant.tokens.unwrap_or(u64::MAX);
        places.sort_by(|one, other| {
            let (one, other) = (&variants[*one], &variants[*other]);
            let last_first = tokens(other).cmp(&tokens(one));
            one.temperature.total_cmp(&other.temperature).then(last_first)
        });
        places.dedup_by(|next, first| variants[*next].temperature == variants[*first].temperature);
        if let (Some(temperature), true) = (self.claim.temperature, places.len() > 1) {
            places.retain(|at| variants[*at].temperature == temperature);
            if places.is_empty() {
                return Err(format!("this run has no `{generator}` at T = {temperature}"));
            }
        }
        Ok(places)
    }

    /// The number of a variant.
    fn number(&self, place: usize) -> Result<Bounded, String> {
        let variant = &self.results.variants[place];
        if let Some(reason) = variant.failure() {
            return Err(format!("`{}` failed: {reason}", variant.generator));
        }
        match self.found.estimate(variant, 0) {
            Some(ours) if !ours.value.is_nan() => Ok(ours),
            Some(_) => Err("the number is degenerate on this dataset".to_owned()),
            None => Err("this run did not ask for it".to_owned()),
        }
    }

    /// The variant of another generator at the same temperature, if it has several.
    fn other(&self, generator: &str, place: usize) -> Result<usize, String> {
        let temperature = self.results.variants[place].temperature;
        let others = self.variants(generator)?;
        let same = |at: &&usize| self.results.variants[**at].temperature == temperature;
        let found = others.iter().find(same).or(others.first().filter(|_| others.len() == 1));
        found.copied().ok_or_else(|| format!("this run has no `{generator}` at T = {temperature}"))
    }

    /// A variant's number minus another's.
    fn difference(&self, one: usize, other: usize) -> Result<Bounded, String> {
        let numbers = [self.number(one)?, self.number(other)?];
        let variants = [one, other].map(|place| &self.results.variants[place]);
        if variants.iter().all(|variant| self.found.is_by_prompt(variant, 0))
            && let Some(found) = self.field.by_prompts(self.metric, one, other)
            && found.paired
        {
            return Ok(found.difference);
        }
        let rows = variants.map(|variant| self.found.rows(variant, 0));
        let [one, other] =
            [0, 1].map(|side: usize| Numbers { rows: rows[side], estimate: Some(numbers[side]) });
        let tested = self.field.by_services(one, other);
        Ok(tested.map_or(Bounded::NONE, |tested| tested.difference()))
    }

    /// A variant's number, minus that of real graphs if the claim is about the difference.
    fn judged(&self, place: usize) -> Result<Bounded, String> {
        let number = self.number(place)?;
        let Some(reference) = &self.reference else { return Ok(number) };
        let estimate = reference.reference(0).ok_or("this run has no row of real graphs")?;
        let rows = self.found.rows(&self.results.variants[place], 0);
        let real = Numbers { rows: reference.reference_rows(0), estimate: Some(estimate) };
        let tested = self.field.by_services(Numbers { rows, estimate: Some(number) }, real);
        Ok(tested.map_or(Bounded::NONE, |tested| tested.difference()))
    }

    /// Why the claim means nothing on this dataset, if that is so.
    fn without_signal(&self) -> Option<String> {
        let Signal { metric: id, reference, chance } = self.claim.signal.as_ref()?;
        let about = self.claim.dimensions.clone().reference(reference.as_str());
        let found = self.results.find(&[Entry::new("", metric(id)?, about)]);
        let real = found.reference(0).unwrap_or(Bounded::NONE);
        (real.low.is_nan() || real.low <= *chance).then(|| {
            let [value, low, high] = [real.value, real.low, real.high].map(number::print);
            format!(
                "models trained on real graphs reach {value} ({low} to {high}), chance is {chance}"
            )
        })
    }
}

impl Claim {
    /// The published number as text.
    fn published(&self, metric: &Metric) -> String {
        let number = |value: f64| match metric.unit.heading() {
            "%" => number::short(value * 100.0),
            "points" => number::short(value),
            _ => value.to_string(),
        };
        let above = |other: &String| match (self.by, self.times) {
            (Some(by), _) => format!("> {other} by {}", number(by)),
            (_, Some(times)) => format!("> {other}, {times} times"),
            _ => format!("> {other}"),
        };
        match (self.value, self.at_least, self.at_most, self.range, &self.above) {
            (Some(value), ..) => number(value),
            (_, Some(bound), ..) => format!("≥ {}", number(bound)),
            (_, _, Some(bound), ..) => format!("≤ {}", number(bound)),
            (_, _, _, Some([low, high]), _) => format!("{}–{}", number(low), number(high)),
            (.., Some(other)) => above(other),
            _ => String::new(),
        }
    }

    /// What is allowed of the number itself; `None` for a claim of order alone.
    fn region(&self, metric: &Metric) -> Option<Region> {
        if let Some(value) = self.value {
            return Some(Region::about(value, self.within.or_else(|| usual_margin(metric))?));
        }
        let range = self.range.map(|[low, high]| Region { low, high });
        range.or(self.at_least.map(Region::at_least)).or(self.at_most.map(Region::at_most))
    }

    fn judge(&self, ours: &Ours) -> Judged {
        let places = match ours.variants(&self.generator) {
            Ok(places) => places,
            Err(reason) => return Judged::none(reason),
        };
        let judged: Vec<(f64, Judged)> = places
            .iter()
            .map(|place| (ours.results.variants[*place].temperature, self.judge_at(ours, *place)))
            .collect();
        let verdicts: Vec<(f64, Verdict)> =
            judged.iter().map(|(temperature, one)| (*temperature, one.verdict.clone())).collect();
        let orders: Option<Vec<Order>> = judged.iter().map(|(_, one)| one.order).collect();
        let order = orders.and_then(|orders| {
            let first = *orders.first()?;
            Some(if orders.iter().all(|order| *order == first) { first } else { Order::Open })
        });
        let number = judged.first().and_then(|(_, one)| one.number);
        let verdict = at_all(&verdicts).expect("a variant");
        Judged { number, order, verdict }
    }

    fn judge_at(&self, ours: &Ours, place: usize) -> Judged {
        let number = match ours.judged(place) {
            Ok(number) => number,
            Err(reason) => return Judged::none(reason),
        };
        let scale = if ours.metric.is_fraction() { 100.0 } else { 1.0 };
        let (order, compared) =
            match self.above.as_ref().map(|other| self.order(ours, place, other)) {
                None => (None, None),
                Some(Ok((order, verdict))) => (Some(order), Some(verdict)),
                Some(Err(reason)) => {
                    let judged = Judged::none(reason);
                    return Judged { number: Some(number), ..judged };
                }
            };
        let of_number = self.region(ours.metric).map(|region| region.judge(number, scale));
        let mut verdict = of_number.or(compared).unwrap_or_else(|| {
            Verdict::new(Word::NotComparable, "the claim says nothing of a number")
        });
        if let (Word::Agrees, Some(beside), Some(region)) =
            (verdict.word, &self.beside, self.region(ours.metric))
        {
            let other = ours.other(beside, place).and_then(|other| ours.number(other));
            if other.is_ok_and(|other| region.judge(other, scale).word == Word::Agrees) {
                let reason = format!("`{beside}` agrees as well, which it should not");
                verdict = Verdict::new(Word::Vacuous, reason);
            }
        }
        if let Some(reason) = ours.without_signal() {
            verdict = Verdict::new(Word::NoSignal, reason);
        }
        Judged { number: Some(number), order, verdict }
    }

    /// Whether the generator's number is above another's, by as much as the claim says.
    fn order(&self, ours: &Ours, place: usize, other: &str) -> Result<(Order, Verdict), String> {
        let other = ours.other(other, place)?;
        let difference = ours.difference(place, other)?;
        let order = Order::of(difference);
        let scale = if ours.metric.is_fraction() { 100.0 } else { 1.0 };
        let shown = |value: f64| number::print(value * scale);
        let Bounded { value, low, high } = difference;
        let text = format!("difference {} ({} to {})", shown(value), shown(low), shown(high));
        let verdict = if let Some(times) = self.times {
            // Of the number minus so many times the other one, from their intervals.
            let Bounded { value, low, high } = ours.number(other)?;
            let larger = Bounded { value: value * times, low: low * times, high: high * times };
            let above = independent(ours.number(place)?, larger).difference;
            let Verdict { word, .. } = Region::at_least(0.0).judge(above, scale);
            Verdict::new(word, format!("{text}; {times} times as large: {}", word.as_str()))
        } else if let Some(by) = self.by {
            let Verdict { word, reason } = Region::at_least(by).judge(difference, scale);
            Verdict::new(word, format!("{text}: {reason}"))
        } else {
            Verdict::new(order.verdict(), text)
        };
        Ok((order, verdict))
    }
}

/// Differences from a published value that make none: 5 points of fractions.
fn usual_margin(metric: &Metric) -> Option<f64> {
    match metric.unit {
        Unit::Fraction => Some(0.05),
        Unit::Points => Some(5.0),
        _ => None,
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
            let numbers = [claim.value, claim.at_least, claim.at_most].iter().flatten().count()
                + usize::from(claim.range.is_some());
            let margins = [claim.by, claim.times].iter().flatten().count();
            assert!(numbers <= 1 && margins <= 1 && numbers + margins <= 1, "{claim:?}");
            assert!(numbers == 1 || claim.above.is_some(), "{claim:?}");
            assert!(margins == 0 || claim.above.is_some(), "{claim:?}");
            let described = metric(&claim.metric).unwrap_or_else(|| panic!("{claim:?}"));
            assert!(numbers == 0 || claim.region(described).is_some(), "{claim:?}");
            let signal = claim.signal.as_ref();
            assert!(signal.is_none_or(|signal| metric(&signal.metric).is_some()), "{claim:?}");
            let root = env!("CARGO_MANIFEST_DIR");
            let manifest = format!("{root}/experiments/paper/{}.toml", claim.experiment);
            assert!(std::path::Path::new(&manifest).exists(), "{claim:?}");
            // A name that no baseline has would never be compared.
            for name in [&claim.generator].into_iter().chain(&claim.above).chain(&claim.beside) {
                // A probe's variants are baselines with what was done to them, others with what was set.
                let name = name.split('+').next().unwrap_or(name);
                let name = name.split("-tokens-").next().unwrap_or(name);
                let file = format!("{}/baselines/{name}.toml", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&file).exists(), "{claim:?}");
            }
        }
    }
}
