//! Results of an experiment as one table, and what all tables and figures of them have in common: variants
//! put together from their seeds, reference rows of real graphs, and the notes below.
//!
//! Records of all runs and of the reference rows are one long table (a row per record, a column per
//! dimension). Whoever wants numbers says which, by metric and dimensions, and gets them by a join
//! ([`Results::find`]).

use std::collections::{BTreeSet, HashMap};

use polars::prelude::{
    Column as Series, DataFrame, IntoLazy, JoinArgs, JoinType, LazyFrame, PolarsResult,
    SortMultipleOptions, UniqueKeepStrategy, col, lit,
};

use super::figure::{Axis, BarSeries, Bars, Bounded, Content, Figure, Panel, Style};
use super::statistics::{self, Seeds};
use super::table::{Cell, Column, Table};
use super::{MAX_DRAWN, ReportInput, RunRecords};
use crate::graph::Name;
use crate::number::grouped;
use crate::records::{
    Better, Dimensions, Interval, Metric, PERFECT, PromptScores, Record, Resamples, Unit, to_frame,
};

/// All seeds of one generator, temperature and checkpoint.
#[derive(Clone, Debug)]
pub struct Variant<'a> {
    /// Number of the variant in the table of records.
    number: u32,
    pub generator: &'a str,
    pub label: &'a str,
    pub temperature: f64,
    /// Mean over the seeds of the training tokens at the checkpoint.
    pub tokens: Option<u64>,
    pub style: Style,
    pub runs: Vec<&'a RunRecords>,
}

/// What a number is: its metric and what it is about, with the heading of its column or series.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub heading: String,
    pub metric: &'static Metric,
    pub about: Dimensions,
}

impl Entry {
    pub fn new(heading: impl Into<String>, metric: &'static Metric, about: Dimensions) -> Self {
        Self { heading: heading.into(), metric, about }
    }

    fn column(&self) -> Column {
        Column::estimate(&self.heading, self.metric.unit.heading())
    }
}

/// A reference row: its label, and what its numbers are about where those of variants are about `_`.
pub type Reference = (&'static str, fn(Dimensions) -> Dimensions);

/// The results of an experiment, or those of some of its variants.
#[derive(Clone)]
pub struct Results<'a> {
    pub input: ReportInput<'a>,
    pub variants: Vec<Variant<'a>>,
    records: DataFrame,
    /// The rows of the table, in order.
    all: Vec<&'a Record>,
}

/// Columns in which variants are compared with each other and with rows of real graphs.
#[derive(Clone, Default)]
pub struct Columns {
    pub entries: Vec<Entry>,
    pub references: &'static [Reference],
}

impl Columns {
    pub fn new(entries: impl Into<Vec<Entry>>, references: &'static [Reference]) -> Self {
        Self { entries: entries.into(), references }
    }
}

/// A reference row.
pub struct ReferenceRow {
    pub label: String,
    /// The temperature of a perfect generator.
    pub perfect: Option<Name>,
    pub found: Found,
}

/// Whose number it is in the table of records: absent for reference rows.
const VARIANT: &str = "variant";
/// Place of a record among all, so that seeds keep their order.
const PLACE: &str = "place";
/// Place of what is asked for among the entries of a question.
const ENTRY: &str = "entry";
/// Why no query can fail.
const COLUMNS: &str = "every column has a name and a type of its own";

impl<'a> Results<'a> {
    pub fn new(input: ReportInput<'a>) -> Self {
        let variants = variants(input.runs);
        let of_variants = variants.iter().flat_map(|variant| {
            let runs = variant.runs.iter().filter_map(|run| run.outcome.as_ref().ok());
            runs.flatten().map(|record| (Some(variant.number), record))
        });
        let references = input.references.unwrap_or_default().iter().map(|record| (None, record));
        let (numbers, all): (Vec<Option<u32>>, Vec<&Record>) =
            of_variants.chain(references).unzip();
        let places: Vec<u32> = (0..).take(all.len()).collect();
        let mut records = to_frame(&all, true).expect(COLUMNS);
        for column in [Series::new(VARIANT.into(), numbers), Series::new(PLACE.into(), places)] {
            records.with_column(column).expect(COLUMNS);
        }
        Self { input, variants, records, all }
    }

    /// Those of some variants.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Variant) -> bool) -> Self {
        let variants = self.variants.iter().filter(|variant| keep(variant)).cloned().collect();
        Self { variants, records: self.records.clone(), all: self.all.clone(), ..*self }
    }

    /// What a number is for each draw of services, where that is known.
    pub fn resamples(&self, row: &Row) -> Option<&'a Resamples> {
        self.all.get(row.place as usize)?.resamples.as_ref()
    }

    /// Those of variants without a failure, of which there are numbers.
    #[must_use]
    pub fn succeeded(&self) -> Self {
        self.only(|variant| variant.failure().is_none())
    }

    /// Those that figures with a series for each variant show: the generators that the experiment names, or
    /// all. `None` where they are more than colours: the tables have them all.
    #[must_use]
    pub fn plotted(&self) -> Option<Self> {
        let plotted = self.input.plotted;
        let shown = self.only(|variant| {
            plotted.is_empty() || plotted.iter().any(|name| name == variant.generator)
        });
        (shown.variants.len() <= MAX_DRAWN).then_some(shown)
    }

    /// The records of a metric that variants have: a column for each dimension, `variant`, `value`, `low`,
    /// `high` and `count`.
    pub fn records(&self, metric: &Metric) -> LazyFrame {
        let of_variants = col(VARIANT).is_not_null().and(col("metric").eq(lit(metric.id)));
        self.records.clone().lazy().filter(of_variants)
    }

    /// What the records of a metric are about, each once, in order of first appearance.
    pub fn dimensions(&self, metric: &Metric) -> Vec<Dimensions> {
        let columns: Vec<_> = Dimensions::columns(&[], true)
            .iter()
            .map(|column| col(column.name().clone()))
            .collect();
        let distinct = self.records(metric).select(columns);
        let distinct = distinct.unique_stable(None, UniqueKeepStrategy::First).collect();
        Dimensions::read(&distinct.expect(COLUMNS)).expect(COLUMNS)
    }

    /// The values of a dimension in the records of a metric, ascending.
    pub fn values<T: Ord>(
        &self,
        metric: &Metric,
        dimension: impl Fn(Dimensions) -> Option<T>,
    ) -> Vec<T> {
        let values: BTreeSet<T> =
            self.dimensions(metric).into_iter().filter_map(dimension).collect();
        values.into_iter().collect()
    }

    /// The numbers of all variants and reference rows for each of `entries`.
    pub fn find(&self, entries: &[Entry]) -> Found {
        let joined = self.joined(entries).expect(COLUMNS);
        Found::read(entries, &joined).expect(COLUMNS)
    }

    fn joined(&self, entries: &[Entry]) -> PolarsResult<DataFrame> {
        let about: Vec<&Dimensions> = entries.iter().map(|entry| &entry.about).collect();
        let metrics: Vec<&str> = entries.iter().map(|entry| entry.metric.id).collect();
        let mut columns = vec![Series::new("metric".into(), metrics)];
        columns.extend(Dimensions::columns(&about, true));
        let keys: Vec<_> = columns.iter().map(|column| col(column.name().clone())).collect();
        columns.push(Series::new(ENTRY.into(), (0..).take(entries.len()).collect::<Vec<u32>>()));
        let asked = DataFrame::new(entries.len(), columns)?.lazy();
        let how = JoinArgs { nulls_equal: true, ..JoinArgs::new(JoinType::Inner) };
        self.records
            .clone()
            .lazy()
            .join(asked, keys.clone(), keys, how)
            .sort([PLACE], SortMultipleOptions::default())
            .collect()
    }

    /// `Accuracy: the experiment's title`.
    pub fn titled(&self, what: &str) -> String {
        format!("{what}: {}", self.input.title)
    }

    /// Label of the variant; with its temperature where variants of several are shown.
    pub fn name(&self, variant: &Variant) -> String {
        if self.variants.iter().any(|other| other.temperature != variant.temperature) {
            format!("{} T = {}", variant.label, variant.temperature)
        } else {
            variant.label.to_owned()
        }
    }

    /// Labels of the generators, in order of first appearance.
    pub fn labels(&self) -> Vec<&'a str> {
        let mut labels: Vec<&str> = Vec::new();
        for variant in &self.variants {
            if !labels.contains(&variant.label) {
                labels.push(variant.label);
            }
        }
        labels
    }

    /// All temperatures, ascending, each once.
    pub fn temperatures(&self) -> Vec<f64> {
        let mut temperatures: Vec<f64> =
            self.variants.iter().map(|variant| variant.temperature).collect();
        temperatures.sort_by(f64::total_cmp);
        temperatures.dedup();
        temperatures
    }

    /// A table with a row for each reference that has a number, then one for each variant.
    pub fn table(&self, title: &str, references: &[Reference], entries: &[Entry]) -> Table {
        let head = [Column::text("generator"), Column::number("answers", "")];
        let mut table = self.headed(title, head, entries);
        self.add_rows(&mut table, references, entries, |label, variant| {
            let answers = variant.map_or(Cell::Missing, |variant| Cell::Integer(variant.graphs()));
            vec![Cell::text(label), answers]
        });
        table.notes.extend(self.notes());
        table
    }

    /// A table without rows: columns of its own, then one for each entry.
    pub fn headed(
        &self,
        title: &str,
        head: impl IntoIterator<Item = Column>,
        entries: &[Entry],
    ) -> Table {
        let columns = head.into_iter().chain(entries.iter().map(Entry::column));
        Table::new(self.titled(title), columns.collect())
    }

    /// Adds a row for each reference that has a number, then one for each variant: what `head` makes of its
    /// label, then the number for each entry. The first number of a failed variant says why it failed.
    pub fn add_rows(
        &self,
        table: &mut Table,
        references: &[Reference],
        entries: &[Entry],
        head: impl Fn(&str, Option<&Variant>) -> Vec<Cell>,
    ) {
        for (label, values) in self.references(references, entries) {
            let mut row = head(&label, None);
            let cells = values.into_iter().zip(entries);
            row.extend(cells.map(|(value, entry)| cell_or_missing(entry.metric, value)));
            table.push(row);
        }
        let found = self.find(entries);
        for variant in &self.variants {
            let mut cells: Vec<Cell> =
                (0..entries.len()).map(|entry| found.cell(variant, entry)).collect();
            if let (Some(first), Some(reason)) = (cells.first_mut(), variant.failure()) {
                *first = Cell::Failed(reason);
            }
            let head = head(&self.name(variant), Some(variant));
            for (cell, place) in cells.iter_mut().zip(0..) {
                if found.is_of_too_few(variant, place) {
                    *cell = Cell::text("n/a (too few)");
                }
            }
            table.push(head.into_iter().chain(cells).collect());
        }
        table.notes.extend(found.sizes());
    }

    /// The numbers of the references that have any, and of a perfect generator at each temperature.
    pub fn references(
        &self,
        references: &[Reference],
        entries: &[Entry],
    ) -> Vec<(String, Vec<Option<Bounded>>)> {
        let numbers = |row: ReferenceRow| {
            let values = (0..entries.len()).map(|entry| row.found.reference(entry)).collect();
            (row.label, values)
        };
        self.reference_rows(references, entries).into_iter().map(numbers).collect()
    }

    /// As [`Results::references`], seed by seed.
    pub fn reference_rows(&self, references: &[Reference], entries: &[Entry]) -> Vec<ReferenceRow> {
        let found = |of: &dyn Fn(Dimensions) -> Dimensions| {
            let about = |entry: &Entry| Entry { about: of(entry.about.clone()), ..entry.clone() };
            self.find(&entries.iter().map(about).collect::<Vec<_>>())
        };
        let rows = references.iter().map(|(label, of)| ReferenceRow {
            label: (*label).to_owned(),
            perfect: None,
            found: found(of),
        });
        let perfect = self.perfect().into_iter().map(|temperature| {
            let of = |about: Dimensions| about.temperature(temperature.clone()).reference(PERFECT);
            let label = format!("perfect generator, T = {temperature}");
            ReferenceRow { label, found: found(&of), perfect: Some(temperature) }
        });
        let has_any = |row: &ReferenceRow| {
            (0..entries.len()).any(|entry| row.found.reference(entry).is_some())
        };
        rows.chain(perfect).filter(has_any).collect()
    }

    /// Temperatures of the perfect generator's rows, in their order.
    fn perfect(&self) -> Vec<Name> {
        let mut temperatures: Vec<Name> = Vec::new();
        let dimensions = self.input.references.unwrap_or_default().iter().map(|r| &r.dimensions);
        for about in dimensions.filter(|about| about.reference.as_deref() == Some(PERFECT)) {
            if let Some(temperature) = &about.temperature
                && !temperatures.contains(temperature)
            {
                temperatures.push(temperature.clone());
            }
        }
        temperatures
    }

    /// A panel with a place on the axis for each reference and variant, and a series for each entry.
    pub fn panel(
        &self,
        title: &str,
        y: impl Fn(&Bars) -> Axis,
        references: &[Reference],
        entries: &[Entry],
    ) -> Panel {
        let shown = self.succeeded();
        let known = self.references(references, entries);
        let found = shown.find(entries);
        let series = entries.iter().enumerate().map(|(place, entry)| {
            let values = known.iter().map(|(_, values)| values[place].unwrap_or(Bounded::NONE));
            let of_variants = shown.variants.iter().map(|variant| found.bounded(variant, place));
            BarSeries {
                label: entry.heading.clone(),
                style: Style::Generator(place),
                values: values.chain(of_variants).collect(),
            }
        });
        let bars = Bars { backdrop: None, series: series.collect() };
        let names = known.iter().map(|(label, _)| label.clone());
        // Temperatures are named where any variant has another, drawn or not.
        let names = names.chain(shown.variants.iter().map(|variant| self.name(variant)));
        Panel {
            title: title.to_owned(),
            x: Axis::names("", names.collect()),
            y: y(&bars),
            content: Content::Bars(bars),
        }
    }

    /// A panel with a place on the axis for each entry, and a series for each variant that has not failed,
    /// behind a series of what is real, or on top of it.
    pub fn panel_by_entry(
        &self,
        x: &str,
        y: impl Fn(&Bars) -> Axis,
        entries: &[Entry],
        real: Option<BarSeries>,
        backdrop: Option<BarSeries>,
    ) -> Panel {
        let found = self.find(entries);
        let shown = self.variants.iter().filter(|variant| variant.failure().is_none());
        let series = shown.map(|variant| BarSeries {
            label: self.name(variant),
            style: variant.style,
            values: (0..entries.len()).map(|entry| found.bounded(variant, entry)).collect(),
        });
        let bars = Bars { backdrop, series: real.into_iter().chain(series).collect() };
        let names = entries.iter().map(|entry| entry.heading.clone()).collect();
        Panel {
            title: String::new(),
            x: Axis::names(x, names),
            y: y(&bars),
            content: Content::Bars(bars),
        }
    }

    /// Panels above each other with a note of their own, which may be empty.
    pub fn figure(
        &self,
        title: &str,
        panels: Vec<Panel>,
        width: f64,
        row_height: f64,
        note: &str,
    ) -> Figure {
        let note = (!note.is_empty()).then(|| note.to_owned());
        let notes = note.into_iter().chain(self.figure_notes()).collect();
        Figure { title: self.titled(title), panels, across: 1, width, row_height, notes }
    }
}

/// Groups runs in order of first appearance. The n-th checkpoints of the seeds belong together: their token
/// counts may differ a little, as they fall on whole steps.
fn variants(runs: &[RunRecords]) -> Vec<Variant<'_>> {
    let mut labels: Vec<&str> = Vec::new();
    let mut keys: Vec<(usize, u64, Option<usize>)> = Vec::new();
    let mut variants: Vec<Variant> = Vec::new();
    for run in runs {
        let label = labels.iter().position(|label| *label == run.label).unwrap_or_else(|| {
            labels.push(&run.label);
            labels.len() - 1
        });
        let key = (label, run.temperature.to_bits(), checkpoint(runs, run));
        let place = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            variants.push(Variant {
                number: variants.len() as u32,
                generator: &run.generator,
                label: &run.label,
                temperature: run.temperature,
                tokens: None,
                style: Style::Generator(label),
                runs: Vec::new(),
            });
            variants.len() - 1
        });
        variants[place].runs.push(run);
    }
    for variant in &mut variants {
        let tokens: Vec<u64> = variant.runs.iter().filter_map(|run| run.snapshot_tokens).collect();
        variant.tokens = tokens.iter().sum::<u64>().checked_div(tokens.len() as u64);
    }
    variants
}

/// How many earlier checkpoints there are of the same training.
fn checkpoint(runs: &[RunRecords], run: &RunRecords) -> Option<usize> {
    let tokens = run.snapshot_tokens?;
    let same = |other: &&RunRecords| {
        (&other.label, other.seed, other.temperature.to_bits())
            == (&run.label, run.seed, run.temperature.to_bits())
    };
    let earlier = runs.iter().filter(same).filter_map(|run| run.snapshot_tokens);
    Some(earlier.filter(|other| *other < tokens).collect::<BTreeSet<u64>>().len())
}

impl Variant<'_> {
    /// The first failed seed and why. One failed seed fails the variant: the mean of the others would be
    /// over another set than that of the other variants.
    pub fn failure(&self) -> Option<String> {
        self.runs.iter().find_map(|run| {
            let reason = run.outcome.as_ref().err()?;
            Some(format!("seed {}: {reason}", run.seed))
        })
    }

    /// Answers over all seeds.
    pub fn graphs(&self) -> u64 {
        self.runs.iter().map(|run| run.graphs).sum()
    }

    /// What is known of each answer, by seed; `None` where a seed failed, or nothing was kept.
    pub fn prompt_scores(&self) -> Option<Seeds<'_>> {
        let scores = self.runs.iter().map(|run| Some((run.seed, run.prompt_scores.as_ref()?)));
        scores.collect::<Option<Seeds>>().filter(|_| self.failure().is_none())
    }

    /// Services that the prompts of all seeds ask for: the clusters behind intervals.
    fn services(&self) -> Option<u64> {
        let scores = self.prompt_scores()?;
        let names = scores.iter().flat_map(|(_, scores)| &scores.services);
        Some(names.collect::<BTreeSet<_>>().len() as u64)
    }

    /// ` at 1000 tokens`, of a checkpoint.
    pub fn at_tokens(&self) -> String {
        self.tokens.map_or(String::new(), |tokens| format!(" at {tokens} tokens"))
    }
}

/// One record of a seed or reference.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub estimate: Bounded,
    pub count: u64,
    /// Place among all records.
    place: u32,
}

impl Row {
    /// The same of another number.
    #[must_use]
    pub fn with(self, estimate: Bounded) -> Self {
        Self { estimate, ..self }
    }
}

/// Numbers that were asked for.
#[derive(Default)]
pub struct Found {
    metrics: Vec<&'static Metric>,
    /// By variant and entry; one row for each seed that has the number, in order.
    rows: HashMap<(Option<u32>, u32), Vec<Row>>,
}

impl Found {
    fn read(entries: &[Entry], joined: &DataFrame) -> PolarsResult<Self> {
        let mut rows: HashMap<(Option<u32>, u32), Vec<Row>> = HashMap::new();
        let entry = joined.column(ENTRY)?.u32()?.iter();
        let keys = joined.column(VARIANT)?.u32()?.iter().zip(entry);
        let ends =
            ["value", "low", "high"].map(|name| joined.column(name).and_then(|c| c.f64().cloned()));
        let [value, low, high] = ends;
        let (value, low, high) = (value?, low?, high?);
        let count = joined.column("count")?.u64()?;
        let place = joined.column(PLACE)?.u32()?;
        for (row, (variant, entry)) in keys.enumerate() {
            let number =
                |column: &polars::prelude::Float64Chunked| column.get(row).unwrap_or(f64::NAN);
            let estimate =
                Bounded { value: number(&value), low: number(&low), high: number(&high) };
            let (count, place) = (count.get(row).unwrap_or(0), place.get(row).unwrap_or(u32::MAX));
            let row = Row { estimate, count, place };
            rows.entry((variant, entry.unwrap_or(u32::MAX))).or_default().push(row);
        }
        Ok(Self { metrics: entries.iter().map(|entry| entry.metric).collect(), rows })
    }

    /// The records of the variant's seeds that have the number.
    pub fn rows(&self, variant: &Variant, entry: usize) -> &[Row] {
        self.rows.get(&(Some(variant.number), entry as u32)).map_or(&[], Vec::as_slice)
    }

    /// The number of a variant; `None` if a seed failed or lacks it.
    pub fn estimate(&self, variant: &Variant, entry: usize) -> Option<Bounded> {
        let rows = self.rows(variant, entry);
        let all = rows.len() == variant.runs.len() && variant.failure().is_none();
        let metric = self.metrics[entry];
        let together = if all { combine(metric, rows)? } else { return None };
        Some(crossed(variant, metric, rows).map_or(together, |interval| Bounded {
            value: together.value,
            low: interval.low.min(together.value),
            high: interval.high.max(together.value),
        }))
    }

    /// The number of a reference row.
    pub fn reference(&self, entry: usize) -> Option<Bounded> {
        combine(self.metrics[entry], self.reference_rows(entry))
    }

    pub fn reference_rows(&self, entry: usize) -> &[Row] {
        self.rows.get(&(None, entry as u32)).map_or(&[], Vec::as_slice)
    }

    /// Whether the values of single prompts that a variant has are those behind the number.
    pub fn is_by_prompt(&self, variant: &Variant, entry: usize) -> bool {
        variant
            .prompt_scores()
            .is_some_and(|seeds| is_mean_of(&seeds, self.metrics[entry], self.rows(variant, entry)))
    }

    /// As [`Found::estimate`], for figures.
    pub fn bounded(&self, variant: &Variant, entry: usize) -> Bounded {
        self.estimate(variant, entry).unwrap_or(Bounded::NONE)
    }

    /// As [`Found::estimate`], for tables. Which failure it was, notes and rows say once.
    pub fn cell(&self, variant: &Variant, entry: usize) -> Cell {
        if variant.failure().is_some() {
            return Cell::Failed(String::new());
        }
        cell_or_missing(self.metrics[entry], self.estimate(variant, entry))
    }

    /// Graphs that a distance is measured on, for all rows alike.
    fn size(&self, entry: usize) -> Option<u64> {
        let of_entry = self.rows.iter().filter(|((_, place), _)| *place == entry as u32);
        let largest = of_entry.flat_map(|(_, rows)| rows).map(|row| row.count).max();
        largest.filter(|size| self.metrics[entry].of_samples && *size > 0)
    }

    /// Whether a variant has no number because one of its seeds has fewer graphs than the others' size.
    fn is_of_too_few(&self, variant: &Variant, entry: usize) -> bool {
        let rows = self.rows(variant, entry);
        let least = rows.iter().map(|row| row.count).min();
        variant.failure().is_none()
            && least.zip(self.size(entry)).is_some_and(|(least, size)| least < size)
            && self.bounded(variant, entry).value.is_nan()
    }

    /// A note that says how many graphs of each row distances are measured on.
    fn sizes(&self) -> Option<String> {
        let sizes: BTreeSet<u64> =
            (0..self.metrics.len()).filter_map(|entry| self.size(entry)).collect();
        let sizes: Vec<String> = sizes.into_iter().map(|size| grouped(size, ",")).collect();
        (!sizes.is_empty()).then(|| {
            format!(
                "Distances are measured on {} graphs of every row, reference rows included, and are means over samples of that size; n/a (too few): fewer valid graphs.",
                sizes.join(" or ")
            )
        })
    }

    /// Answers behind a number over all seeds, 0 where there are none.
    pub fn answers(&self, variant: &Variant, entry: usize) -> u64 {
        self.rows(variant, entry).iter().map(|row| row.count).sum()
    }
}

/// The number as its metric is shown: in per cent or not.
pub fn table_cell(metric: &Metric, value: Bounded) -> Cell {
    if metric.is_fraction() { share_cell(value) } else { number_cell(value) }
}

/// A number that is not shown as a percentage.
pub fn number_cell(Bounded { value, low, high }: Bounded) -> Cell {
    if value.is_nan() { Cell::Missing } else { Cell::Number { value, low, high } }
}

/// A fraction, shown as a percentage.
pub fn share_cell(Bounded { value, low, high }: Bounded) -> Cell {
    if value.is_nan() { Cell::Missing } else { Cell::Share { value, low, high } }
}

pub fn cell_or_missing(metric: &Metric, value: Option<Bounded>) -> Cell {
    value.map_or(Cell::Missing, |value| table_cell(metric, value))
}

/// One number for the records of several seeds ([`statistics::of_seeds`]); `None` without records.
pub fn combine(metric: &Metric, rows: &[Row]) -> Option<Bounded> {
    let seeds: Vec<Bounded> = rows.iter().map(|row| row.estimate).collect();
    let Bounded { value, low, high } = statistics::of_seeds(&seeds)?;
    // Fractions, and areas and the like of which more is better, end at 1.
    let area = metric.unit == Unit::Plain && metric.better == Better::Higher;
    let ends = (metric.is_fraction() || area) && seeds.iter().all(|seed| seed.high <= 1.0);
    Some(Bounded { value, low, high: if ends { high.min(1.0) } else { high } })
}

/// Whether the number is the mean of what is known of as many answers, seed by seed.
fn is_mean_of(seeds: &Seeds, metric: &Metric, rows: &[Row]) -> bool {
    let is_mean = |scores: &PromptScores, row: &Row| {
        let values = scores.column(metric).unwrap_or_default().iter();
        let known: Vec<f64> = values.copied().filter(|value| !value.is_nan()).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        known.len() as u64 == row.count && (mean - row.estimate.value).abs() < 1e-12
    };
    seeds.len() == rows.len()
        && seeds.iter().zip(rows).all(|((_, scores), row)| is_mean(scores, row))
}

/// The interval of a number whose prompts are known one by one, over seeds and services; `None` for others.
fn crossed(variant: &Variant, metric: &Metric, rows: &[Row]) -> Option<Interval> {
    let seeds = variant.prompt_scores().filter(|seeds| is_mean_of(seeds, metric, rows))?;
    let Bounded { low, high, .. } = statistics::fraction(&seeds, metric)?;
    (!low.is_nan()).then_some(Interval { low, high })
}

/// How several seeds were put together, for tables with intervals.
const SEVERAL_SEEDS: &str = "Means over seeds. Intervals of valid, accurate and novel answers: bootstrap over seeds and services; others: those of the seeds, which share real graphs, widened by how the seeds differ (Student).";
const ONE_SEED: &str = "One seed: intervals show the uncertainty of the sample of prompts and graphs, not that of training.";
const ONE_SERVICE: &str = "One service: no intervals but those of fractions of prompts or graphs, as others come from drawing services.";

/// What stands under every table and figure.
impl Results<'_> {
    /// Seeds and answers behind the numbers; how to read intervals; the dataset with its labels; failures.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.background();
        let several = self.variants.iter().any(|variant| variant.runs.len() > 1);
        let several = several.then_some(SEVERAL_SEEDS);
        let meaning: Vec<&str> = several.into_iter().chain(self.limits()).collect();
        notes.insert(1, format!("95 % intervals in brackets. {}", meaning.join(" ")));
        notes
    }

    /// As [`Results::notes`], for tables without intervals, and those that say themselves what theirs are.
    pub fn background(&self) -> Vec<String> {
        std::iter::once(self.sample()).chain(self.common()).collect()
    }

    /// What the intervals of variants with one seed, or with prompts of one service, do not know.
    pub fn limits(&self) -> impl Iterator<Item = &'static str> + use<> {
        let variants = &self.variants;
        let one_seed = variants.is_empty() || variants.iter().any(|v| v.runs.len() == 1);
        let one_service = variants.iter().any(|variant| variant.services() == Some(1));
        one_seed.then_some(ONE_SEED).into_iter().chain(one_service.then_some(ONE_SERVICE))
    }

    /// As [`Results::notes`], for figures.
    pub fn figure_notes(&self) -> Vec<String> {
        let mut notes = vec![format!("{} Bands and bars: 95 % intervals.", self.sample())];
        let mut left_out: Vec<&str> = Vec::new();
        for run in self.input.runs {
            let drawn = self.variants.iter().any(|variant| variant.label == run.label);
            if !drawn && !left_out.contains(&run.label.as_str()) {
                left_out.push(&run.label);
            }
        }
        if !left_out.is_empty() {
            notes.push(format!("In the tables only: {}.", list(&left_out)));
        }
        notes.extend(self.common());
        notes
    }

    fn common(&self) -> Vec<String> {
        let (card, profile) = (self.input.dataset, self.input.profile);
        let mut notes = vec![format!(
            "Dataset `{}`: {} training and {} test graphs of {} services, split {}. Profile `{profile}`.",
            card.name,
            grouped(card.split.train_graphs, ","),
            grouped(card.split.test_graphs, ","),
            grouped(card.services, ","),
            if card.split.kind.is_empty() { "unknown" } else { &card.split.kind },
        )];
        if profile == "smoke" {
            notes.push(
                "The smoke profile proves that everything runs; its numbers mean nothing.".into(),
            );
        }
        notes.extend(card.labels.iter().cloned());
        notes.extend(self.variants.iter().filter_map(|variant| {
            Some(format!("`{}` failed: {}", self.name(variant), variant.failure()?))
        }));
        notes
    }

    /// "3 seeds (0, 1, 2), 6,800 answers each, 300 services.", once if all variants agree.
    pub fn sample(&self) -> String {
        let mut samples: Vec<(String, Vec<String>)> = Vec::new();
        for variant in self.variants.iter().filter(|variant| variant.failure().is_none()) {
            let sample = sample_of(variant);
            let name = self.name(variant);
            match samples.iter_mut().find(|(known, _)| *known == sample) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name),
                None => samples.push((sample, vec![name])),
            }
        }
        match samples.as_slice() {
            [] => "No run gave a result.".to_owned(),
            [(sample, _)] => format!("{sample}."),
            _ => {
                let each =
                    samples.iter().map(|(sample, names)| format!("{}: {sample}.", list(names)));
                each.collect::<Vec<_>>().join(" ")
            }
        }
    }
}

fn sample_of(variant: &Variant) -> String {
    let seeds: Vec<String> = variant.runs.iter().map(|run| run.seed.to_string()).collect();
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    let per_seed = variant.graphs() / variant.runs.len().max(1) as u64;
    let each = if seeds.len() == 1 { "" } else { " each" };
    let services = variant.services().map_or(String::new(), |services| {
        let word = if services == 1 { "service" } else { "services" };
        format!(", {} {word}", grouped(services, ","))
    });
    format!(
        "{} {word} ({}), {} answers{each}{services}",
        seeds.len(),
        seeds.join(", "),
        grouped(per_seed, ",")
    )
}

/// Labels one after the other; semicolons, as labels may hold commas.
pub fn list(labels: &[impl AsRef<str>]) -> String {
    labels.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: &Metric = &Metric::fraction("share/1", "a fraction").wilson();
    const DISTANCE: &Metric = &Metric::plain("distance/1", "a distance").bootstrap();

    fn row(value: f64, low: f64, high: f64, count: u64) -> Row {
        Row { estimate: Bounded { value, low, high }, count, place: 0 }
    }

    fn combined(metric: &Metric, rows: &[Row]) -> Bounded {
        combine(metric, rows).expect("rows")
    }

    #[test]
    fn one_seed_keeps_its_interval() {
        let one = combined(DISTANCE, &[row(0.5, 0.4, 0.7, 9)]);
        assert_eq!((one.value, one.low, one.high), (0.5, 0.4, 0.7));
        assert!(combine(DISTANCE, &[]).is_none());
    }

    /// Seeds that ask for the same prompts and answer alike have seen these prompts once: pooled, as they
    /// were, three of them had an interval 1.7 times too narrow.
    #[test]
    fn three_identical_seeds_have_the_interval_of_one() {
        for metric in [SHARE, DISTANCE] {
            let three = combined(metric, &[row(0.5, 0.3, 0.7, 20); 3]);
            assert!((three.low - 0.3).abs() < 1e-12 && (three.high - 0.7).abs() < 1e-12);
        }
    }
}
