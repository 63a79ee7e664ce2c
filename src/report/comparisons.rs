//! Variants compared with each other, over seeds and services.

use super::ReportFiles;
use super::figure::{Axis, Bounded, Content, Figure, Level, Line, Lines, PAGE, Panel, Style};
use super::results::{Results, Variant, table_cell};
use super::statistics::{Comparison, Resampling, Sample, Seeds, Services, compare, holm};
use super::table::{Cell, Column, Table};
use crate::records::Metric;

/// What is compared: heading, and a metric that has a value for each prompt.
pub type Compared = (&'static str, &'static Metric);

/// Up to so many variants, all pairs are compared; of more, the first with all others.
const MOST_PAIRED: usize = 6;

const INTERVALS: &str =
    "95 % intervals in brackets: bootstrap over seeds and over services, which all seeds share.";

/// Variants with what is known of their answers, ready to be compared.
struct Field<'a> {
    results: &'a Results<'a>,
    /// `None` for a variant that failed, or whose answers were not kept one by one.
    seeds: Vec<Option<Seeds<'a>>>,
    services: Services<'a>,
    resampling: Resampling,
}

/// Two variants by their places, and what came of it in each metric.
struct Pair {
    one: usize,
    other: usize,
    metric: Compared,
    found: Option<Comparison>,
}

/// The tables `seeds` and `comparisons` and the figure `comparisons`; nothing where no variant's answers
/// were kept one by one, or nothing is compared.
pub fn comparisons(results: &Results, compared: &[Compared]) -> ReportFiles {
    let mut files = ReportFiles::default();
    let Some(field) = Field::new(results).filter(|_| !compared.is_empty()) else { return files };
    files.table("seeds", field.seeds_table(compared));
    let pairs = field.pairs(compared);
    if pairs.is_empty() {
        return files;
    }
    files.table("comparisons", field.comparisons_table(&pairs));
    if pairs.iter().any(|pair| pair.found.is_some()) {
        files.figure("comparisons", field.figure(compared, &pairs));
    }
    files
}

impl<'a> Field<'a> {
    fn new(results: &'a Results<'a>) -> Option<Self> {
        let seeds: Vec<Option<Seeds>> =
            results.variants.iter().map(Variant::prompt_scores).collect();
        let known = seeds.iter().flatten().flatten().map(|(_, scores)| *scores);
        let services = Services::new(known);
        let resampling = Resampling::new(&services);
        (services.count() > 0).then_some(Self { results, seeds, services, resampling })
    }

    /// The first variant is the reference, or each one is.
    fn pairs(&self, compared: &[Compared]) -> Vec<Pair> {
        let count = self.results.variants.len();
        let references = if count <= MOST_PAIRED { count } else { 1 };
        let places =
            (0..references).flat_map(|other| (other + 1..count).map(move |one| (one, other)));
        let places: Vec<(usize, usize)> = places.collect();
        let pair = |metric: Compared, (one, other): (usize, usize)| {
            let found = self.seeds[one].as_ref().zip(self.seeds[other].as_ref());
            let found = found.and_then(|(one, other)| {
                compare([one, other], metric.1, &self.services, &self.resampling)
            });
            Pair { one, other, metric, found }
        };
        compared.iter().flat_map(|metric| places.iter().map(|at| pair(*metric, *at))).collect()
    }

    /// How to read the intervals of these tables, and what stands behind the numbers.
    fn intervals(&self) -> impl Iterator<Item = String> {
        let meaning: Vec<&str> = [INTERVALS].into_iter().chain(self.results.limits()).collect();
        std::iter::once(meaning.join(" ")).chain(self.results.background())
    }

    fn name(&self, place: usize) -> String {
        self.results.name(&self.results.variants[place])
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

    fn comparisons_table(&self, pairs: &[Pair]) -> Table {
        let fractions = pairs.iter().all(|pair| pair.metric.1.is_fraction());
        let mut table = Table::new(
            self.results.titled("Generators compared"),
            vec![
                Column::text("metric"),
                Column::text("generator"),
                Column::text("compared with"),
                Column::estimate("difference", if fractions { "points" } else { "" }),
                Column::number("effect size", ""),
                Column::share("probability of superiority"),
                Column::number("p", ""),
                Column::number("p (Holm)", ""),
                Column::text("paired"),
                Column::number("prompts", ""),
                Column::number("services", ""),
            ],
        );
        let p: Vec<f64> = pairs
            .iter()
            .map(|pair| pair.found.as_ref().map_or(f64::NAN, |found| found.p))
            .collect();
        for (pair, corrected) in pairs.iter().zip(holm(&p)) {
            let mut row = vec![
                Cell::text(pair.metric.0),
                Cell::text(self.name(pair.one)),
                Cell::text(self.name(pair.other)),
            ];
            row.extend(self.comparison_cells(pair, corrected));
            table.push(row);
        }
        let tests = p.iter().filter(|p| !p.is_nan()).count();
        table.notes.push("Difference: generator minus the one that it is compared with. Effect size: Cohen's h (0.2 is called small, 0.5 medium, 0.8 large), d for metrics that are not fractions. Probability of superiority: probability that the generator has the higher value on a service drawn at random and with a training drawn at random, ties counting half; 50 % is no difference.".into());
        table.notes.push(format!(
            "p: of no difference. The larger of a permutation test by services and, for several seeds, a t-test by seeds; n/a where the two were not asked the same prompts. Holm: corrected for the {tests} tests of this table."
        ));
        table.notes.extend(self.intervals());
        table
    }

    fn comparison_cells(&self, pair: &Pair, corrected: f64) -> [Cell; 8] {
        let failure = [pair.one, pair.other].into_iter().find_map(|place| {
            Some(format!("{}: {}", self.name(place), self.results.variants[place].failure()?))
        });
        let Some(found) = &pair.found else {
            let mut cells = [const { Cell::Missing }; 8];
            if let Some(reason) = failure {
                cells[0] = Cell::Failed(reason);
            }
            return cells;
        };
        let plain = |value: f64| number(value, f64::NAN, f64::NAN);
        let points = if pair.metric.1.is_fraction() { 100.0 } else { 1.0 };
        let Bounded { value, low, high } = found.difference;
        let Bounded { value: above, low: lowest, high: highest } = found.improvement;
        [
            number(value * points, low * points, high * points),
            plain(found.effect),
            if above.is_nan() {
                Cell::Missing
            } else {
                Cell::Share { value: above, low: lowest, high: highest }
            },
            plain(found.p),
            plain(corrected),
            Cell::text(if found.paired { "by prompt" } else { "no" }),
            Cell::Integer(found.prompts),
            Cell::Integer(found.services),
        ]
    }

    /// A forest plot: the probability of superiority of each pair.
    fn figure(&self, compared: &[Compared], pairs: &[Pair]) -> Figure {
        let with_first = self.results.variants.len() > MOST_PAIRED;
        let panels = compared.iter().map(|metric| {
            let shown = pairs.iter().filter(|pair| pair.metric == *metric && pair.found.is_some());
            let pairs: Vec<&Pair> = shown.collect();
            let names = pairs.iter().map(|pair| {
                let (one, other) = (self.name(pair.one), self.name(pair.other));
                if with_first { one } else { format!("{one} > {other}") }
            });
            let values = pairs.iter().map(|pair| pair.found.as_ref());
            let values: Vec<Bounded> = values
                .map(|found| found.map_or(Bounded::NONE, |found| found.improvement))
                .collect();
            // Nothing in between: they are points, not a curve.
            let points = values.into_iter().enumerate().flat_map(|(place, value)| {
                [(place as f64, value), (place as f64 + 0.5, Bounded::NONE)]
            });
            let over = if with_first { format!(" over {}", self.name(0)) } else { String::new() };
            let label = format!("probability of superiority{over}");
            let line =
                Line { label, style: Style::Generator(0), points: points.collect(), markers: true };
            let none = Bounded { value: 0.5, ..Bounded::NONE };
            let level =
                Level { label: "no difference".to_owned(), style: Style::Real, value: none };
            Panel {
                title: metric.0.to_owned(),
                x: Axis::names("", names.collect()),
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

/// A number without a metric's unit.
fn number(value: f64, low: f64, high: f64) -> Cell {
    if value.is_nan() { Cell::Missing } else { Cell::Number { value, low, high } }
}
