//! Condition accuracy by number of edges, depth, temperature and training data, and why answers fail
//! (figures 3 and 12).

use std::collections::BTreeMap;

use polars::prelude::{DataType, SortMultipleOptions, col, lit};

use super::answers::{ACCURACY, COMPARED, accurate};
use super::family::no_columns;
use super::{
    Bin, Case, Dimensions, Family, Groups, Interval, Metric, Record, Report, WHOLE, bootstrap,
};
use crate::data::Dataset;
use crate::graph::{Condition, Grid, Name, Verdict, ViolationCode, grid_cells};
use crate::report::figure::{
    Axis, Bounded, COLUMN, Content, Figure, HeatMap, Line, Lines, PAGE, Panel,
};
use crate::report::table::{Cell, Column, Table};
use crate::report::{Entry, Found, ReportFiles, Results, Row, Variant, cell_or_missing, combine};
use crate::version::Version;

/// The family of condition accuracy.
pub const FAMILY: Family = Family {
    id: "accuracy",
    version: Version::new("evaluate/accuracy", 2),
    metrics: &[ACCURACY, FAILURE, TRAIN_GRAPHS],
    score: Some(|case, _| Ok(records(case))),
    references: None,
    has_perfect_generator: false,
    reads_likelihoods: false,
    reports: &[Report {
        id: "accuracy",
        draw: report,
        compared: COMPARED,
        columns: no_columns,
        claims: &[
            "fig3a-tabular-16-edges",
            "fig3b-tabular-depth-5",
            "fig3a-recursive-above-tabular",
            "fig3b-recursive-above-tabular",
            "fig3c-recursive-above-tabular",
            "fig3c-instruction-above-recursive",
            "fig13-intermediate-instructions",
            "fig14-larger",
            "fig3b-instruction-depth-6",
            "table3-in-context-depth-2",
            "table3-in-context-depth-3",
            "table3-in-context-depth-4",
            "table3-in-context-depth-5",
        ],
    }],
};

/// Share of prompts whose first violation has a code: the generator's own failure before a
/// constraint on the graph before a mismatch with the request. Codes that did not occur have no
/// record; the records and the accuracy add up to 1.
pub const FAILURE: &Metric =
    &Metric::fraction("failure/1", "prompts by first violation").lower().wilson();

/// Training graphs with exactly a cell's num_edges and depth, over all services.
pub const TRAIN_GRAPHS: &Metric = &Metric::count("train-graphs/1", "training graphs of a cell");

/// Cells of the grid by how many training graphs they have.
const TRAIN_BINS: [Bin; 4] = [Bin::new(0, 0), Bin::new(1, 4), Bin::new(5, 19), Bin::at_least(20)];

/// Whether a prompt whose service has so many training graphs is in a group.
type InGroup = fn(&Condition, u64) -> bool;

/// Groups of prompts: by size, and by how many training graphs the service of the prompt has; with their
/// names in tables. Prompts that leave the attribute open are in no group.
const GROUPS: [(&str, &str, InGroup); 8] = [
    ("edges 1-10", "1–10 edges", |asked, _| asked.num_edges.is_some_and(|edges| edges <= 10)),
    ("edges 11+", "11 edges or more", |asked, _| asked.num_edges.is_some_and(|edges| edges > 10)),
    ("depth 1-3", "depth 1–3", |asked, _| asked.depth.is_some_and(|depth| depth <= 3)),
    ("depth 4+", "depth 4 or more", |asked, _| asked.depth.is_some_and(|depth| depth > 3)),
    ("service 0", "service with 0 training graphs", |_, graphs| train_bin(graphs) == 0),
    ("service 1-4", "service with 1–4 training graphs", |_, graphs| train_bin(graphs) == 1),
    ("service 5-19", "service with 5–19 training graphs", |_, graphs| train_bin(graphs) == 2),
    ("service 20+", "service with 20 training graphs or more", |_, graphs| train_bin(graphs) == 3),
];

/// Index of the bin of [`TRAIN_BINS`] that so many training graphs fall into.
fn train_bin(graphs: u64) -> usize {
    let bin = TRAIN_BINS.iter().position(|bin| bin.contains(graphs));
    bin.expect("the bins hold every number")
}

/// Accurate answers among prompts.
#[derive(Clone, Copy, Default)]
struct Tally {
    hits: u64,
    count: u64,
}

impl Tally {
    fn add(&mut self, accurate: bool) {
        self.hits += u64::from(accurate);
        self.count += 1;
    }
}

/// All records of the accuracy evaluation.
fn records(case: &Case) -> Vec<Record> {
    let Case { dataset, conditions, verdicts, .. } = *case;
    let train = train_graphs(dataset);
    let train_of = |cell: &(u32, u32)| train.get(cell).copied().unwrap_or(0);
    let mut by_cell: BTreeMap<(u32, u32), Tally> = BTreeMap::new();
    let mut by_edges: BTreeMap<u32, BTreeMap<&Name, Tally>> = BTreeMap::new();
    let mut by_depth: BTreeMap<u32, BTreeMap<&Name, Tally>> = BTreeMap::new();
    let mut by_train = [Tally::default(); TRAIN_BINS.len()];
    let mut by_group: BTreeMap<&str, Tally> = BTreeMap::new();
    let services = service_graphs(dataset);
    for (condition, verdict) in conditions.iter().zip(verdicts) {
        let accurate = verdict.violation.is_none();
        let of_service = services.get(&condition.service).copied().unwrap_or(0);
        for (group, ..) in GROUPS.iter().filter(|(.., holds)| holds(condition, of_service)) {
            by_group.entry(group).or_default().add(accurate);
        }
        if let Some(edges) = condition.num_edges {
            let services = by_edges.entry(edges).or_default();
            services.entry(&condition.service).or_default().add(accurate);
        }
        if let Some(depth) = condition.depth {
            let services = by_depth.entry(depth).or_default();
            services.entry(&condition.service).or_default().add(accurate);
        }
        if let (Some(edges), Some(depth)) = (condition.num_edges, condition.depth) {
            by_cell.entry((edges, depth)).or_default().add(accurate);
            by_train[train_bin(train_of(&(edges, depth)))].add(accurate);
        }
    }
    let share =
        |of: Dimensions, tally: &Tally| Record::share(ACCURACY, of, tally.hits, tally.count);
    let mut records = vec![accurate(case)];
    let name = |(edges, depth): &(u32, u32)| WHOLE.edges(*edges).depth(*depth);
    records.extend(by_cell.iter().map(|(cell, tally)| share(name(cell), tally)));
    let of = |about: Dimensions, services| by_services(about, services, case.seed);
    records.extend(by_edges.iter().map(|(edges, of_edges)| of(WHOLE.edges(*edges), of_edges)));
    records.extend(by_depth.iter().map(|(depth, of_depth)| of(WHOLE.depth(*depth), of_depth)));
    let bins = TRAIN_BINS.iter().zip(&by_train);
    records.extend(bins.map(|(bin, tally)| share(WHOLE.train_graphs(*bin), tally)));
    records.extend(by_group.iter().map(|(group, tally)| share(WHOLE.group(*group), tally)));
    records.extend(failures(verdicts));
    records.extend(by_cell.keys().map(|cell| {
        let graphs = train_of(cell);
        Record::new(TRAIN_GRAPHS, name(cell), graphs as f64, Interval::NONE, graphs)
    }));
    records
}

/// Accuracy on the prompts of these services: with Wilson's interval, and with what draws of services make of
/// it, for differences between variants.
fn by_services(about: Dimensions, services: &BTreeMap<&Name, Tally>, seed: u64) -> Record {
    let groups = Groups::named(seed, services.keys().map(|name| name.as_str()));
    let tallies: Vec<Tally> = services.values().copied().collect();
    let drawn = bootstrap(groups, |drawn| {
        let (mut hits, mut count) = (0, 0);
        for (tally, times) in tallies.iter().zip(drawn) {
            hits += u64::from(*times) * tally.hits;
            count += u64::from(*times) * tally.count;
        }
        vec![hits as f64 / count as f64]
    });
    let resamples = drawn.into_iter().next().and_then(|estimate| estimate.resamples);
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum();
    let (hits, count) = (sum(|tally| tally.hits), sum(|tally| tally.count));
    Record { resamples, ..Record::share(ACCURACY, about, hits, count) }
}

/// Number of training graphs by (num_edges, depth).
fn train_graphs(dataset: &Dataset) -> BTreeMap<(u32, u32), u64> {
    count(dataset.train().into_iter().map(|graph| (graph.num_edges(), graph.depth())))
}

/// Number of training graphs by service.
fn service_graphs(dataset: &Dataset) -> BTreeMap<&Name, u64> {
    count(dataset.train().into_iter().map(|graph| graph.service()))
}

/// How often each key occurs.
fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_insert(0) += 1);
    counts
}

fn failures(verdicts: &[Verdict]) -> Vec<Record> {
    let codes: BTreeMap<ViolationCode, u64> =
        count(verdicts.iter().filter_map(|verdict| verdict.violation));
    let prompts = verdicts.len() as u64;
    let records = codes.iter();
    records
        .map(|(code, hits)| Record::share(FAILURE, WHOLE.code(code.as_str()), *hits, prompts))
        .collect()
}

/// One of the two attributes that prompts vary.
struct Attribute {
    name: &'static str,
    axis: &'static str,
    of: fn(&Dimensions) -> Option<Bin>,
    /// All prompts with this value.
    is: fn(Bin) -> Dimensions,
}

const EDGES: Attribute = Attribute {
    name: "edges",
    axis: "number of edges (calls)",
    of: |about| about.edges,
    is: |edges| WHOLE.edges(edges),
};
const DEPTH: Attribute = Attribute {
    name: "depth",
    axis: "depth (calls)",
    of: |about| about.depth,
    is: |depth| WHOLE.depth(depth),
};

fn report(results: &Results) -> ReportFiles {
    let mut files = ReportFiles::default();
    files.table("accuracy", overview(results));
    for by in [DEPTH, EDGES] {
        files.table(&format!("accuracy-by-{}", by.name), by_attribute(results, &by));
    }
    files.table("accuracy-by-group", by_group(results));
    files.table("failures", failures_table(results));
    let temperatures = results.temperatures();
    // A sweep of temperatures is about temperature: its other figures would only repeat each other.
    let apart = if temperatures.len() > 2 { &[] } else { &temperatures[..] };
    for temperature in apart {
        let suffix = match temperatures.len() {
            1 => String::new(),
            _ => format!("-t{temperature}"),
        };
        let shown = results.only(|variant| variant.temperature == *temperature);
        if let Some(drawn) = shown.plotted() {
            files.figure(format!("accuracy-heat-map{suffix}"), heat_maps(&drawn));
            files.figure(format!("accuracy-by-edges{suffix}"), by_value(&drawn, &EDGES));
            files.figure(format!("accuracy-by-depth{suffix}"), by_value(&drawn, &DEPTH));
            let by_training = by_training_graphs(&drawn);
            files.figure(format!("accuracy-by-training-graphs{suffix}"), by_training);
        }
    }
    if temperatures.len() > 1 {
        files.figure("accuracy-by-temperature", by_temperature(results, &temperatures));
    }
    files
}

/// Bins as names on an axis.
fn texts(bins: &[Bin]) -> Vec<String> {
    bins.iter().map(Bin::to_string).collect()
}

fn accuracy(heading: impl Into<String>, about: Dimensions) -> Entry {
    Entry::new(heading, ACCURACY, about)
}

fn overview(results: &Results) -> Table {
    let bins =
        TRAIN_BINS.map(|bin| accuracy(format!("{bin} training graphs"), WHOLE.train_graphs(bin)));
    let entries = [vec![accuracy(ACCURACY.title, WHOLE)], bins.to_vec()].concat();
    let head = [
        Column::text("generator"),
        Column::number("temperature", ""),
        Column::number("prompts", ""),
    ];
    let mut table = results.headed("Condition accuracy", head, &entries);
    results.add_rows(&mut table, &[], &entries, |label, variant| {
        let Some(variant) = variant else { return vec![Cell::text(label)] };
        vec![
            Cell::text(variant.label),
            Cell::text(variant.temperature.to_string()),
            Cell::Integer(variant.graphs()),
        ]
    });
    table.notes.push(
        "The last four columns put together the cells of the grid (edges, depth) that have so many training graphs; n/a where there is no such cell.".into(),
    );
    table.notes.extend(prompts_note(results));
    table.notes.extend(results.notes());
    table
}

/// What the prompts of a grid are, and how many of its cells have none.
fn prompts_note(results: &Results) -> Option<String> {
    let Grid { max_edges, max_depth, is_borrowed } = results.input.grid?;
    if is_borrowed {
        return Some(
            "Prompts have service and latency of test graphs near to their cell: they ask services for \
             shapes that these may never make."
                .to_owned(),
        );
    }
    let known = results.dimensions(ACCURACY);
    let is_asked = |(edges, depth): &(u32, u32)| known.contains(&WHOLE.edges(*edges).depth(*depth));
    let cells = grid_cells(max_edges, max_depth).count();
    let asked = grid_cells(max_edges, max_depth).filter(is_asked).count();
    let from = match results.input.dataset.held_out.from.as_str() {
        "" => "held-out graphs",
        from => from,
    };
    (asked > 0).then(|| {
        format!(
            "Prompts have the attributes of {from} with exactly the edges and depth of their cell. \
             {} of the {cells} cells have no such graph and are left out.",
            cells - asked
        )
    })
}

/// Tables with a column per generator; a sweep of temperatures has a block of rows for each.
struct ByGenerator<'a> {
    results: &'a Results<'a>,
    labels: Vec<&'a str>,
    temperatures: Vec<f64>,
}

impl<'a> ByGenerator<'a> {
    fn new(results: &'a Results<'a>) -> Self {
        Self { results, labels: results.labels(), temperatures: results.temperatures() }
    }

    fn variant(&self, label: &str, temperature: f64) -> Option<&Variant<'a>> {
        let mut variants = self.results.variants.iter();
        variants.find(|one| one.label == label && one.temperature == temperature)
    }

    /// Columns: the temperature where there are several, `head`, one per generator.
    fn table(&self, title: &str, head: impl IntoIterator<Item = Column>) -> Table {
        let mut columns = Vec::new();
        if self.temperatures.len() > 1 {
            columns.push(Column::number("temperature", ""));
        }
        columns.extend(head);
        columns.extend(self.labels.iter().map(|label| Column::share(*label)));
        Table::new(self.results.titled(title), columns)
    }

    fn row(
        &self,
        temperature: f64,
        head: impl IntoIterator<Item = Cell>,
        cell: impl Fn(&Variant) -> Cell,
    ) -> Vec<Cell> {
        let mut row = Vec::new();
        if self.temperatures.len() > 1 {
            row.push(Cell::text(temperature.to_string()));
        }
        row.extend(head);
        let cells = self.labels.iter().map(|label| self.variant(label, temperature));
        row.extend(cells.map(|variant| variant.map_or(Cell::Missing, &cell)));
        row
    }
}

/// Columns: the attribute, training graphs, one per generator.
fn by_attribute(results: &Results, attribute: &Attribute) -> Table {
    let by = ByGenerator::new(results);
    let head = [Column::number(attribute.name, "calls"), Column::number("training graphs", "")];
    let mut table = by.table(&format!("Condition accuracy by {}", attribute.name), head);
    let values = results.values(ACCURACY, |about| (attribute.of)(&about)?.single());
    let entries: Vec<Entry> =
        values.iter().map(|value| accuracy("", (attribute.is)((*value).into()))).collect();
    let found = results.find(&entries);
    let cells = TrainingGraphs::new(results);
    for temperature in &by.temperatures {
        for (entry, value) in values.iter().enumerate() {
            let graphs = cells.with(|about| (attribute.of)(about) == Some((*value).into()));
            let head = [Cell::Integer((*value).into()), graphs];
            table.push(by.row(*temperature, head, |variant| found.cell(variant, entry)));
        }
    }
    table.notes = results.notes();
    table
}

/// Rows: small and large graphs, well and little known services; groups without prompts are left out.
fn by_group(results: &Results) -> Table {
    let by = ByGenerator::new(results);
    let head = [Column::text("prompts of"), Column::number("prompts", "")];
    let mut table = by.table("Condition accuracy by group", head);
    let entries = GROUPS.map(|(group, title, _)| accuracy(title, WHOLE.group(group)));
    let found = results.find(&entries);
    for temperature in &by.temperatures {
        for (entry, Entry { heading, .. }) in entries.iter().enumerate() {
            let prompts = results.variants.iter().map(|variant| found.answers(variant, entry));
            let prompts = prompts.max().unwrap_or(0);
            if prompts > 0 {
                let head = [Cell::text(heading), Cell::Integer(prompts)];
                table.push(by.row(*temperature, head, |variant| found.cell(variant, entry)));
            }
        }
    }
    table.notes = results.notes();
    table
}

/// Training graphs of each cell of the grid, which are the same for all variants.
struct TrainingGraphs(Vec<(Dimensions, f64)>);

impl TrainingGraphs {
    fn new(results: &Results) -> Self {
        let entry = |about| Entry::new("", TRAIN_GRAPHS, about);
        let entries: Vec<Entry> = results.dimensions(TRAIN_GRAPHS).into_iter().map(entry).collect();
        let found = results.find(&entries);
        let graphs = |place| {
            let mut variants = results.variants.iter();
            variants.find_map(|variant| found.estimate(variant, place)).map_or(0.0, |n| n.value)
        };
        let graphs: Vec<f64> = (0..entries.len()).map(graphs).collect();
        Self(entries.into_iter().map(|entry| entry.about).zip(graphs).collect())
    }

    /// Those of all cells that are `inside`.
    fn with(&self, inside: impl Fn(&Dimensions) -> bool) -> Cell {
        if self.0.is_empty() {
            return Cell::Missing;
        }
        let inside = self.0.iter().filter(|(about, _)| inside(about));
        Cell::Integer(inside.map(|(_, graphs)| graphs.round() as u64).sum())
    }
}

/// Violation codes, most frequent over all variants first.
fn codes(results: &Results) -> Vec<Name> {
    // Whole numbers, of which fractions are a little more or less.
    let prompts = (col("value") * col("count") + lit(0.5)).cast(DataType::UInt64).sum();
    let codes = results.records(FAILURE).group_by([col("code")]).agg([prompts.alias("prompts")]);
    let order = SortMultipleOptions::default().with_order_descending_multi([true, false]);
    let codes = codes.sort(["prompts", "code"], order).collect();
    let codes = codes.and_then(|codes| Ok(codes.column("code")?.str()?.clone()));
    codes.map_or_else(|_| Vec::new(), |codes| codes.iter().flatten().map(Name::from).collect())
}

/// Rows: violation codes. A code that a variant never met is 0.
fn failures_table(results: &Results) -> Table {
    let by = ByGenerator::new(results);
    let head = [Column::text("first violation")];
    let mut table = by.table("Why answers fail", head);
    let codes = codes(results);
    let mut entries = vec![accuracy("(none: accurate)", WHOLE)];
    entries.extend(
        codes.iter().map(|code| Entry::new(code.as_str(), FAILURE, WHOLE.code(code.clone()))),
    );
    let found = results.find(&entries);
    for temperature in &by.temperatures {
        for (entry, Entry { heading, .. }) in entries.iter().enumerate() {
            let cell = |variant: &Variant| match entry {
                0 => found.cell(variant, entry),
                _ => failure_cell(variant, &found, entry),
            };
            table.push(by.row(*temperature, [Cell::text(heading)], cell));
        }
    }
    table.notes = results.notes();
    table
}

/// Seeds without a record of the code have met it in none of their prompts, whose number the first entry
/// has.
fn failure_cell(variant: &Variant, found: &Found, entry: usize) -> Cell {
    if variant.failure().is_some() {
        return Cell::Failed(String::new());
    }
    let (met, whole) = (found.rows(variant, entry), found.rows(variant, 0));
    let not_met = whole.iter().skip(met.len()).map(|row| {
        let Interval { low, high } = Interval::wilson(0, row.count);
        let value = if row.count == 0 { f64::NAN } else { 0.0 };
        row.with(Bounded { value, low, high })
    });
    let rows: Vec<Row> = met.iter().copied().chain(not_met).collect();
    cell_or_missing(FAILURE, combine(FAILURE, &rows))
}

/// One panel per variant that has results.
fn heat_maps(results: &Results) -> Figure {
    let [edges, depths] =
        [EDGES, DEPTH].map(|by| results.values(ACCURACY, |about| (by.of)(&about)));
    let cells: Vec<(usize, usize)> = (0..edges.len())
        .flat_map(|column| (0..depths.len()).map(move |row| (column, row)))
        .collect();
    let about = |(column, row): (usize, usize)| WHOLE.edges(edges[column]).depth(depths[row]);
    let of = |metric| {
        let entries = cells.iter().map(|cell| Entry::new("", metric, about(*cell)));
        results.find(&entries.collect::<Vec<_>>())
    };
    let (shares, graphs) = (of(ACCURACY), of(TRAIN_GRAPHS));
    let mut dots = false;
    let panels = results.succeeded().variants.into_iter().map(|variant| {
        let mut map = HeatMap { columns: edges.len(), rows: depths.len(), ..HeatMap::default() };
        for (entry, cell) in cells.iter().enumerate() {
            let Some(share) = shares.estimate(&variant, entry) else { continue };
            map.cells.insert(*cell, share.value);
            if graphs.estimate(&variant, entry).is_some_and(|graphs| graphs.value == 0.0) {
                map.dotted.insert(*cell);
                dots = true;
            }
        }
        Panel {
            title: variant.label.to_owned(),
            x: Axis::names(EDGES.axis, texts(&edges)),
            y: Axis::names(DEPTH.axis, texts(&depths)),
            content: Content::HeatMap(map),
        }
    });
    let panels = panels.collect();
    let mut notes =
        vec!["Condition accuracy in %; hatched: not possible or not asked for.".to_owned()];
    if dots {
        notes[0].push_str(" A dot: no training graph has this number of edges and depth.");
    }
    let count =
        "Single cells are uncertain (±31 points at 10 prompts, ±14 at 50): read rows and columns.";
    notes.push(count.to_owned());
    notes.extend(prompts_note(results));
    notes.extend(results.background());
    Figure {
        title: results.titled("Condition accuracy by number of edges and depth"),
        panels,
        across: 1,
        width: PAGE,
        row_height: 58.0 + 17.5 * depths.len().max(1) as f64,
        notes,
    }
}

const AXIS: &str = "condition accuracy (%)";

/// A figure of one column.
fn column(results: &Results, title: &str, panel: Panel) -> Figure {
    results.figure(title, vec![panel], COLUMN, 240.0, "")
}

/// Accuracy along one attribute, a line per variant.
fn by_value(results: &Results, attribute: &Attribute) -> Figure {
    let values = results.values(ACCURACY, |about| (attribute.of)(&about)?.single());
    let entries: Vec<Entry> =
        values.iter().map(|value| accuracy("", (attribute.is)((*value).into()))).collect();
    let found = results.find(&entries);
    let lines = results.variants.iter().map(|variant| Line {
        label: variant.label.to_owned(),
        style: variant.style,
        points: (0..)
            .zip(&values)
            .map(|(entry, value)| ((*value).into(), found.bounded(variant, entry)))
            .collect(),
        markers: true,
    });
    let lines = Lines { lines: lines.collect(), levels: Vec::new() };
    let (first, last) = (values.first().copied().unwrap_or(1), values.last().copied().unwrap_or(1));
    let panel = Panel {
        title: String::new(),
        x: Axis::linear(attribute.axis, f64::from(first) - 0.5, f64::from(last) + 0.5).whole(),
        y: Axis::share(AXIS),
        content: Content::Lines(lines),
    };
    column(results, &format!("Condition accuracy by {}", attribute.name), panel)
}

fn by_training_graphs(results: &Results) -> Figure {
    let entries =
        TRAIN_BINS.map(|bin| accuracy(bin.to_string().replace('-', "–"), WHOLE.train_graphs(bin)));
    let x = "training graphs with the prompt's number of edges and depth";
    let panel = results.panel_by_entry(x, |_| Axis::share(AXIS), &entries, None, None);
    column(results, "Condition accuracy by training graphs", panel)
}

fn by_temperature(results: &Results, temperatures: &[f64]) -> Figure {
    let by = ByGenerator::new(results);
    let found = results.find(&[accuracy("", WHOLE)]);
    let lines = by.labels.iter().filter_map(|label| {
        let first = results.variants.iter().find(|variant| variant.label == *label)?;
        let at = |temperature: &f64| {
            let variant = by.variant(label, *temperature);
            (*temperature, variant.map_or(Bounded::NONE, |variant| found.bounded(variant, 0)))
        };
        let points = temperatures.iter().map(at).collect();
        Some(Line { label: (*label).to_owned(), style: first.style, points, markers: true })
    });
    let lines = Lines { lines: lines.collect(), levels: Vec::new() };
    let last = temperatures.last().copied().unwrap_or(1.0);
    let panel = Panel {
        title: String::new(),
        x: Axis::linear("temperature", temperatures[0] - 0.03, last + 0.03),
        y: Axis::share(AXIS),
        content: Content::Lines(lines),
    };
    column(results, "Condition accuracy by temperature", panel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::evaluate::tests::{answer, chain, dataset, failed, find, flat, reversed};
    use crate::graph::{Generated, condition_of};

    /// Two prompts of (2, 2) with 20 training graphs, two of (3, 3) with one, one of (3, 2) with
    /// none.
    fn example() -> (Dataset, Vec<Condition>, Vec<Generated>) {
        let (pair, deep, wide) = (flat("S_1", 2, 9), chain("S_1", 3, 9), flat("S_1", 3, 9));
        let mut train = vec![pair.clone(); 20];
        train.push(deep.clone());
        let asked = [&pair, &pair, &deep, &deep, &wide].map(condition_of).to_vec();
        let answers = vec![answer(&pair), failed(), answer(&deep), answer(&wide), answer(&pair)];
        (dataset(train, vec![pair]), asked, answers)
    }

    #[test]
    fn accuracy_by_hand() {
        let (dataset, asked, answers) = example();
        let records = evaluate(&FAMILY, &dataset, &asked, &answers, 1).unwrap();
        let value = |cell| {
            let record = find(&records, ACCURACY, cell);
            (record.value, record.count)
        };
        assert_eq!(value(""), (0.4, 5));
        assert_eq!(value("edges=2/depth=2"), (0.5, 2));
        assert_eq!(value("edges=3/depth=2"), (0.0, 1));
        assert_eq!(value("edges=3"), (1.0 / 3.0, 3));
        assert_eq!(value("depth=2"), (1.0 / 3.0, 3));
        assert_eq!(value("train-graphs=0"), (0.0, 1));
        assert_eq!(value("train-graphs=1-4"), (0.5, 2));
        assert_eq!(value("train-graphs=20+"), (0.5, 2));
        let none = find(&records, ACCURACY, "train-graphs=5-19");
        assert!(none.value.is_nan() && none.low.is_nan() && none.count == 0);
        for (code, share) in [("format", 0.2), ("request-depth", 0.2), ("request-edges", 0.2)] {
            assert_eq!(find(&records, FAILURE, &format!("code={code}")).value, share);
        }
        assert_eq!(find(&records, TRAIN_GRAPHS, "edges=2/depth=2").value, 20.0);
        assert_eq!(find(&records, TRAIN_GRAPHS, "edges=3/depth=2").value, 0.0);
        assert_eq!(value("group=edges 1-10"), (0.4, 5));
        assert_eq!(value("group=depth 1-3"), (0.4, 5));
        assert_eq!(value("group=service 20+"), (0.4, 5));
        let whole = find(&records, ACCURACY, "");
        assert!(whole.low < 0.4 && 0.4 < whole.high);
    }

    #[test]
    fn the_order_of_prompts_does_not_matter() {
        let (dataset, asked, answers) = example();
        let text = |asked: &[Condition], answers: &[Generated]| {
            let records = evaluate(&FAMILY, &dataset, asked, answers, 1).unwrap();
            format!("{records:?}")
        };
        assert_eq!(text(&asked, &answers), text(&reversed(&asked), &reversed(&answers)));
    }

    #[test]
    fn no_prompts_give_no_numbers() {
        let (dataset, ..) = example();
        let records = evaluate(&FAMILY, &dataset, &[], &[], 1).unwrap();
        assert!(find(&records, ACCURACY, "").value.is_nan());
    }
}
