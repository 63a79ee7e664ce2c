//! Variants compared with each other and with real graphs, over seeds and services: one table of all
//! differences that an experiment declares (docs/metrics/statistics.md).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ReportFiles;
use super::figure::{Axis, Bounded, Content, Figure, Level, Line, Lines, PAGE, Panel, Style};
use super::results::{Columns, Found, Results, Row, Variant, number_cell, share_cell, table_cell};
use super::statistics::{
    Comparison, Difference, Resampled, Resampling, Sample, Seeds, Services, compare, difference,
    holm, independent,
};
use super::table::{Cell, Column, Table};
use crate::records::{Better, Metric};

/// What is compared: heading, and a metric that has a value for each prompt.
pub type Compared = (&'static str, &'static Metric);

/// Whom an experiment compares with whom, declared before there is any result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[String; 2]", into = "[String; 2]")]
pub struct DeclaredPair {
    pub one: One,
    pub other: Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum One {
    /// Every generator.
    Each,
    Generator(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// The generator that is best in the column, whichever that is.
    Best,
    /// The first row of real graphs that has a number, and a perfect generator.
    Real,
    Generator(String),
}

const EACH: &str = "each";
const BEST: &str = "best";
const REAL: &str = "real";

impl DeclaredPair {
    pub fn of(one: &str, other: &str) -> Self {
        [one.to_owned(), other.to_owned()].into()
    }

    /// Each generator with the best, and with real graphs.
    pub fn usual() -> [Self; 2] {
        [Self::of(EACH, BEST), Self::of(EACH, REAL)]
    }

    /// The generators that it names.
    pub fn generators(&self) -> impl Iterator<Item = &str> {
        let one = match &self.one {
            One::Generator(name) => Some(name.as_str()),
            One::Each => None,
        };
        let other = match &self.other {
            Other::Generator(name) => Some(name.as_str()),
            Other::Best | Other::Real => None,
        };
        one.into_iter().chain(other)
    }
}

impl From<[String; 2]> for DeclaredPair {
    fn from([one, other]: [String; 2]) -> Self {
        let one = if one == EACH { One::Each } else { One::Generator(one) };
        let other = match other.as_str() {
            BEST => Other::Best,
            REAL => Other::Real,
            _ => Other::Generator(other),
        };
        Self { one, other }
    }
}

impl From<DeclaredPair> for [String; 2] {
    fn from(DeclaredPair { one, other }: DeclaredPair) -> Self {
        let one = match one {
            One::Each => EACH.to_owned(),
            One::Generator(name) => name,
        };
        let other = match other {
            Other::Best => BEST.to_owned(),
            Other::Real => REAL.to_owned(),
            Other::Generator(name) => name,
        };
        [one, other]
    }
}

const INTERVALS: &str =
    "95 % intervals in brackets: bootstrap over seeds and over services, which all seeds share.";

/// Variants with what is known of them, ready to be compared.
pub struct Field<'a> {
    results: &'a Results<'a>,
    /// `None` for a variant that failed, or whose answers were not kept one by one.
    seeds: Vec<Option<Seeds<'a>>>,
    services: Services<'a>,
    resampling: Resampling,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Tested {
    /// In means over prompts.
    ByPrompt(Comparison),
    /// In numbers of the same draws of services, so many of them.
    ByService(Difference, u32),
    /// In numbers that have nothing in common.
    Apart(Difference),
}

impl Tested {
    pub fn difference(&self) -> Bounded {
        match self {
            Self::ByPrompt(found) => found.difference,
            Self::ByService(found, _) | Self::Apart(found) => found.difference,
        }
    }

    /// Of no difference, before correction.
    pub fn p(&self) -> f64 {
        match self {
            Self::ByPrompt(found) => found.p,
            Self::ByService(found, _) | Self::Apart(found) => found.p,
        }
    }
}

/// The second of two that are compared.
#[derive(Clone, Debug, PartialEq)]
enum Against {
    Variant(usize),
    /// A reference row, by its label.
    Reference(String),
}

/// A column in which variants are compared.
struct Tests {
    heading: String,
    metric: &'static Metric,
    pairs: Vec<(usize, Against, Option<Tested>)>,
    /// Pairs that are not shown and count as tests: which one is the best is seen in the results, so that
    /// each with each might have been compared.
    unseen: usize,
}

/// The tables `seeds` and `differences` and the figure `superiority`: the declared `pairs` in the metrics that
/// have a value for each prompt, and in `columns`.
pub fn differences(
    field: &Field,
    pairs: &[DeclaredPair],
    compared: &[Compared],
    columns: &[Columns],
) -> ReportFiles {
    let mut files = ReportFiles::default();
    if field.services.count() > 0 && !compared.is_empty() {
        files.table("seeds", field.seeds_table(compared));
    }
    let mut tests: Vec<Tests> =
        compared.iter().map(|compared| field.by_prompt(compared, pairs)).collect();
    tests.extend(columns.iter().flat_map(|columns| field.resampled(columns, pairs)));
    tests.retain(|tests| !tests.pairs.is_empty());
    if tests.is_empty() {
        return files;
    }
    files.table("differences", field.table(&tests));
    let is_drawn = |tests: &&Tests| tests.pairs.iter().any(|pair| superiority(&pair.2).is_some());
    let drawn: Vec<&Tests> = tests.iter().filter(is_drawn).collect();
    if !drawn.is_empty() {
        files.figure("superiority", field.figure(&drawn));
    }
    files
}

impl<'a> Field<'a> {
    pub fn new(results: &'a Results<'a>) -> Self {
        let seeds: Vec<Option<Seeds>> =
            results.variants.iter().map(Variant::prompt_scores).collect();
        let known = seeds.iter().flatten().flatten().map(|(_, scores)| *scores);
        let services = Services::new(known);
        let resampling = Resampling::new(&services);
        Self { results, seeds, services, resampling }
    }

    /// The pairs of a column. `best` is the best variant, `real` the labels of reference rows.
    fn declared(
        &self,
        pairs: &[DeclaredPair],
        best: Option<usize>,
        real: &[String],
    ) -> Vec<(usize, Against)> {
        let variants = || self.results.variants.iter().enumerate();
        let several = |generator: &str| {
            let temperatures = variants().filter(|(_, one)| one.generator == generator);
            let temperatures = temperatures.map(|(_, one)| one.temperature.to_bits());
            temperatures.collect::<BTreeSet<u64>>().len() > 1
        };
        let mut declared: Vec<(usize, Against)> = Vec::new();
        for pair in pairs {
            let ones = variants().filter(|(_, variant)| match &pair.one {
                One::Each => true,
                One::Generator(name) => variant.generator == name,
            });
            for (one, variant) in ones {
                let others: Vec<Against> = match &pair.other {
                    Other::Best => best.into_iter().map(Against::Variant).collect(),
                    Other::Real => real.iter().cloned().map(Against::Reference).collect(),
                    Other::Generator(name) => variants()
                        .filter(|(_, other)| other.generator == name)
                        // At the same temperature and checkpoint, where both have several.
                        .filter(|(_, other)| {
                            let both = several(variant.generator) && several(other.generator);
                            !both || variant.temperature == other.temperature
                        })
                        .filter(|(_, other)| variant.tokens.is_some() == other.tokens.is_some())
                        .map(|(other, _)| Against::Variant(other))
                        .collect(),
                };
                for other in others {
                    let same = match other {
                        Against::Variant(other) => {
                            other == one || declared.contains(&(other, Against::Variant(one)))
                        }
                        Against::Reference(_) => false,
                    };
                    if !same && !declared.contains(&(one, other.clone())) {
                        declared.push((one, other));
                    }
                }
            }
        }
        declared
    }

    /// Two variants in a metric by prompt; `None` where one of them lacks it.
    pub fn by_prompts(&self, metric: &Metric, one: usize, other: usize) -> Option<Comparison> {
        let pair = [self.seeds[one].as_ref()?, self.seeds[other].as_ref()?];
        compare(pair, metric, &self.services, &self.resampling)
    }

    /// Two rows of numbers, on shared draws of services where they have any; `None` where one of them has no
    /// number.
    pub fn by_services(&self, one: Numbers, other: Numbers) -> Option<Tested> {
        let (sides, together) = ([one.rows, other.rows], [one.estimate?, other.estimate?]);
        if together.iter().any(|estimate| estimate.value.is_nan()) {
            return None;
        }
        let resampled = |row: &Row| {
            let resamples = self.results.resamples(row)?;
            Some(Resampled { value: row.estimate.value, resamples })
        };
        let [ones, others] = sides.map(|rows| rows.iter().filter_map(resampled).collect());
        let (ones, others): (Vec<Resampled>, Vec<Resampled>) = (ones, others);
        let shared = ones.iter().filter_map(|one| {
            let other = others.iter().find(|other| other.resamples.draws == one.resamples.draws)?;
            Some((*one, *other))
        });
        let (ones, others): (Vec<Resampled>, Vec<Resampled>) = shared.unzip();
        Some(match difference(&ones, &others) {
            Some(found) => Tested::ByService(found, ones[0].resamples.groups),
            None => Tested::Apart(independent(together[0], together[1])),
        })
    }

    fn by_prompt(&self, (heading, metric): &Compared, pairs: &[DeclaredPair]) -> Tests {
        let means = self.seeds.iter().map(|seeds| {
            let means = Sample::of(seeds.as_ref()?, metric, &self.services)?.means();
            Some(means.iter().sum::<f64>() / means.len() as f64)
        });
        let (best, unseen) = best(metric, &means.collect::<Vec<_>>(), pairs);
        let pairs = self.declared(pairs, best, &[]).into_iter().map(|(one, other)| {
            let found = match other {
                Against::Variant(other) => self.by_prompts(metric, one, other),
                Against::Reference(_) => None,
            };
            (one, other, found.map(Tested::ByPrompt))
        });
        let pairs = pairs.collect();
        Tests { heading: (*heading).to_owned(), metric, pairs, unseen }
    }

    fn resampled(&self, columns: &Columns, pairs: &[DeclaredPair]) -> Vec<Tests> {
        let Columns { entries, references } = columns;
        let found = self.results.find(entries);
        let references = self.results.reference_rows(references, entries);
        let tests = entries.iter().enumerate().map(|(place, entry)| {
            let of = |variant: &Variant| found.estimate(variant, place);
            let values = self.results.variants.iter().map(|variant| Some(of(variant)?.value));
            let (best, unseen) = best(entry.metric, &values.collect::<Vec<_>>(), pairs);
            let has = |found: &Found| found.reference(place).is_some_and(|n| !n.value.is_nan());
            let mut real: Vec<String> = Vec::new();
            for row in references.iter().filter(|row| has(&row.found)) {
                // A perfect generator at a temperature of 1, and of others the first.
                if row.perfect.as_deref().map_or(real.is_empty(), |temperature| temperature == "1")
                {
                    real.push(row.label.clone());
                }
            }
            let pairs = self.declared(pairs, best, &real).into_iter().map(|(one, other)| {
                let numbers = |variant: usize| {
                    let variant = &self.results.variants[variant];
                    Numbers { rows: found.rows(variant, place), estimate: of(variant) }
                };
                let other_numbers = match &other {
                    Against::Variant(other) => Some(numbers(*other)),
                    Against::Reference(label) => {
                        let row = references.iter().find(|row| row.label == *label);
                        row.map(|row| Numbers {
                            rows: row.found.reference_rows(place),
                            estimate: row.found.reference(place),
                        })
                    }
                };
                let tested = other_numbers.and_then(|other| self.by_services(numbers(one), other));
                (one, other, tested)
            });
            Tests {
                heading: entry.heading.clone(),
                metric: entry.metric,
                pairs: pairs.collect(),
                unseen,
            }
        });
        tests.collect()
    }

    /// How to read the intervals of these tables, and what stands behind the numbers.
    fn intervals(&self) -> impl Iterator<Item = String> {
        let meaning: Vec<&str> = [INTERVALS].into_iter().chain(self.results.limits()).collect();
        std::iter::once(meaning.join(" ")).chain(self.results.background())
    }

    fn name(&self, place: usize) -> String {
        self.results.name(&self.results.variants[place])
    }

    fn name_of(&self, against: &Against) -> String {
        match against {
            Against::Variant(place) => self.name(*place),
            Against::Reference(label) => label.clone(),
        }
    }

    /// What the seeds of each variant gave, and the mean with an interval that knows of seeds and
    /// services.
    fn seeds_table(&self, compared: &[Compared]) -> Table {
        let mut columns = vec![
            Column::text("generator"),
            Column::number("seeds", ""),
            Column::number("prompts", ""),
            Column::number("services", ""),
        ];
        for (heading, metric) in compared {
            let unit = if metric.is_fraction() { "%" } else { "" };
            columns.push(Column::estimate(*heading, unit));
            columns.push(Column::number(format!("{heading}: lowest seed"), unit));
            columns.push(Column::number(format!("{heading}: highest seed"), unit));
        }
        let mut table = Table::new(self.results.titled("Seeds and services"), columns);
        for (variant, seeds) in self.results.variants.iter().zip(&self.seeds) {
            let samples: Vec<Option<Sample>> = compared
                .iter()
                .map(|(_, metric)| Sample::of(seeds.as_ref()?, metric, &self.services))
                .collect();
            let mut row = vec![Cell::text(self.results.name(variant))];
            row.push(Cell::Integer(variant.runs.len() as u64));
            let counted = samples.iter().flatten().next();
            let count = |of: fn(&Sample) -> u64| {
                counted.map_or(Cell::Missing, |sample| Cell::Integer(of(sample)))
            };
            row.extend([count(Sample::prompts), count(Sample::services)]);
            for ((_, metric), sample) in compared.iter().zip(&samples) {
                row.extend(self.seeds_cells(metric, sample.as_ref()));
            }
            if let (Some(reason), Some(cell)) = (variant.failure(), row.get_mut(4)) {
                *cell = Cell::Failed(reason);
            }
            table.push(row);
        }
        table.notes.push(
            "Prompts: over all seeds. Intervals of fractions are never narrower than Wilson's."
                .into(),
        );
        table.notes.extend(self.intervals());
        table
    }

    fn seeds_cells(&self, metric: &Metric, sample: Option<&Sample>) -> [Cell; 3] {
        let Some(sample) = sample else { return [const { Cell::Missing }; 3] };
        let means = sample.means();
        let ends = [f64::min, f64::max].map(|end| means.iter().copied().reduce(end));
        let plain = |value: f64| table_cell(metric, Bounded { value, ..Bounded::NONE });
        [
            table_cell(metric, sample.estimate(&self.resampling)),
            plain(ends[0].unwrap_or(f64::NAN)),
            plain(ends[1].unwrap_or(f64::NAN)),
        ]
    }

    fn table(&self, tests: &[Tests]) -> Table {
        let mut table = Table::new(
            self.results.titled("Differences"),
            vec![
                Column::text("metric"),
                Column::text("generator"),
                Column::text("compared with"),
                Column::estimate("difference", ""),
                Column::text("unit"),
                Column::number("p", ""),
                Column::number("p (Holm)", ""),
                Column::text("paired"),
                Column::number("services", ""),
                Column::number("effect size", ""),
                Column::share("probability of superiority"),
            ],
        );
        let pairs = || tests.iter().flat_map(|tests| &tests.pairs);
        let p = |tested: &Option<Tested>| tested.as_ref().map_or(f64::NAN, Tested::p);
        let mut p: Vec<f64> = pairs().map(|(.., tested)| p(tested)).collect();
        let shown = p.iter().filter(|p| !p.is_nan()).count();
        // A test that is not made finds nothing.
        p.extend(tests.iter().flat_map(|tests| std::iter::repeat_n(1.0, tests.unseen)));
        let counted = p.iter().filter(|p| !p.is_nan()).count();
        let corrected = holm(&p);
        let with_column =
            tests.iter().flat_map(|tests| tests.pairs.iter().map(move |pair| (tests, pair)));
        for ((tests, (one, other, tested)), corrected) in with_column.zip(corrected) {
            let mut row = vec![
                Cell::text(tests.heading.as_str()),
                Cell::text(self.name(*one)),
                Cell::text(self.name_of(other)),
            ];
            row.extend(self.cells(tests, (*one, other), tested.as_ref(), corrected));
            table.push(row);
        }
        table.notes.push("Difference: generator minus what it is compared with; of fractions in points. Paired by prompt: both were asked the same; by service: both were resampled on the same draws of services and seeds, so that what they share has no part in the difference; no: from the two intervals alone. Effect size: Cohen's h (0.2 is called small, 0.5 medium, 0.8 large). Probability of superiority: that the generator has the higher value on a service drawn at random and with a training drawn at random, ties counting half; 50 % is no difference.".into());
        let unseen = match counted - shown {
            0 => String::new(),
            _ => " Which generator is the best is seen in the results, so that all pairs count in its column.".to_owned(),
        };
        table.notes.push(format!(
            "p: of no difference. The larger of a test over services (sign flips for means over prompts, otherwise the difference by the deviation of its resamples) and, for several seeds, a t-test by seeds; n/a where the two were not asked the same prompts. Holm: corrected for {counted} tests, which the experiment declares before it has results.{unseen}"
        ));
        table.notes.extend(self.intervals());
        table
    }

    fn cells(
        &self,
        tests: &Tests,
        (one, other): (usize, &Against),
        tested: Option<&Tested>,
        corrected: f64,
    ) -> [Cell; 8] {
        let places =
            [Some(one), if let Against::Variant(other) = other { Some(*other) } else { None }];
        let failure = places.into_iter().flatten().find_map(|place| {
            Some(format!("{}: {}", self.name(place), self.results.variants[place].failure()?))
        });
        let Some(tested) = tested else {
            let mut cells = [const { Cell::Missing }; 8];
            if let Some(reason) = failure {
                cells[0] = Cell::Failed(reason);
            }
            return cells;
        };
        let plain = |value: f64| number_cell(Bounded { value, ..Bounded::NONE });
        let fraction = tests.metric.is_fraction();
        let scale = if fraction { 100.0 } else { 1.0 };
        let unit = if fraction { "points" } else { tests.metric.unit.heading() };
        let Bounded { value, low, high } = tested.difference();
        let (paired, services) = match tested {
            Tested::ByPrompt(found) if found.paired => ("by prompt", Cell::Integer(found.services)),
            Tested::ByPrompt(found) => ("no", Cell::Integer(found.services)),
            Tested::ByService(_, groups) => ("by service", Cell::Integer((*groups).into())),
            Tested::Apart(_) => ("no", Cell::Missing),
        };
        let (effect, above) = match tested {
            Tested::ByPrompt(found) => (plain(found.effect), share_cell(found.improvement)),
            _ => (Cell::Missing, Cell::Missing),
        };
        [
            number_cell(Bounded { value: value * scale, low: low * scale, high: high * scale }),
            Cell::text(unit),
            plain(tested.p()),
            plain(corrected),
            Cell::text(paired),
            services,
            effect,
            above,
        ]
    }

    /// A forest plot: the probability of superiority of each pair.
    fn figure(&self, drawn: &[&Tests]) -> Figure {
        let panels = drawn.iter().map(|tests| {
            let shown = tests.pairs.iter().filter_map(|(one, other, tested)| {
                let name = format!("{} > {}", self.name(*one), self.name_of(other));
                Some((name, superiority(tested)?))
            });
            let (names, values): (Vec<String>, Vec<Bounded>) = shown.unzip();
            // Nothing in between: they are points, not a curve.
            let points = values.into_iter().enumerate().flat_map(|(place, value)| {
                [(place as f64, value), (place as f64 + 0.5, Bounded::NONE)]
            });
            let line = Line {
                label: "probability of superiority".to_owned(),
                style: Style::Generator(0),
                points: points.collect(),
                markers: true,
            };
            let none = Bounded { value: 0.5, ..Bounded::NONE };
            let level =
                Level { label: "no difference".to_owned(), style: Style::Real, value: none };
            Panel {
                title: tests.heading.clone(),
                x: Axis::names("", names),
                y: Axis::share("probability of superiority"),
                content: Content::Lines(Lines { lines: vec![line], levels: vec![level] }),
            }
        });
        let note = "Probability that the generator has the higher value on a service drawn at random and with a training drawn at random, ties counting half. Intervals: bootstrap over seeds and services.";
        let title = "Probability of superiority";
        let figure = self.results.figure(title, panels.collect(), PAGE, 320.0, note);
        Figure { across: 2, ..figure }
    }
}

/// One number of a variant or reference row: by seed, and all together.
#[derive(Clone, Copy)]
pub struct Numbers<'r> {
    pub rows: &'r [Row],
    pub estimate: Option<Bounded>,
}

/// The variant with the best value, if any pair asks for it and any is better than another; and how many
/// more pairs could have been asked for.
fn best(metric: &Metric, values: &[Option<f64>], pairs: &[DeclaredPair]) -> (Option<usize>, usize) {
    let sign = match metric.better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::AsReal | Better::Neither => return (None, 0),
    };
    if pairs.iter().all(|pair| pair.other != Other::Best) {
        return (None, 0);
    }
    let known = values.iter().enumerate().filter_map(|(place, value)| Some((place, (*value)?)));
    let known: Vec<(usize, f64)> = known.filter(|(_, value)| !value.is_nan()).collect();
    let count = known.len();
    // Of equals the first.
    let best = known.into_iter().reduce(
        |best, next| {
            if sign * next.1 > sign * best.1 { next } else { best }
        },
    );
    let all = count * count.saturating_sub(1) / 2;
    (best.map(|(place, _)| place), all - count.saturating_sub(1))
}

fn superiority(tested: &Option<Tested>) -> Option<Bounded> {
    match tested {
        Some(Tested::ByPrompt(found)) => Some(found.improvement),
        _ => None,
    }
}
