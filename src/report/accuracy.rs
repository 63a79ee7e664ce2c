//! Accuracy by number of edges, depth, temperature and training data.

use std::collections::BTreeMap;

use super::arms::{self, Arm, COST, table_cell, values_of};
use super::figure::{
    Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, HeatMap, Line, Lines, PAGE, Panel,
};
use super::notes::{background, figure_notes, notes};
use super::table::{Cell, Column, Table};
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::evaluate::accuracy::{ACCURACY, FAILURE, GROUPS, TRAIN_BINS, TRAIN_GRAPHS};
use crate::evaluate::metric::Family;
use crate::evaluate::{Bin, Conditions, Dimensions, Interval, Record, WHOLE, grid_cells};
use crate::graph::Name;

/// One of the two attributes that prompts vary.
struct Attribute {
    name: &'static str,
    value: fn(&Dimensions) -> &Option<Bin>,
}

const EDGES: Attribute = Attribute { name: "edges", value: |about| &about.edges };
const DEPTH: Attribute = Attribute { name: "depth", value: |about| &about.depth };

impl Attribute {
    /// All prompts with this value of the attribute.
    fn is(&self, value: Bin) -> Dimensions {
        if self.name == EDGES.name { WHOLE.edges(value) } else { WHOLE.depth(value) }
    }
}

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("accuracy", overview(input, &arms));
    for by in [DEPTH, EDGES] {
        files.table(&format!("accuracy-by-{}", by.name), by_attribute(input, &arms, &by));
    }
    files.table("accuracy-by-group", by_group(input, &arms));
    files.table("failures", failures(input, &arms));
    files.table("published", published::compare(input, &arms, Family::Accuracy));
    files.tables.extend(arms::effort_table(input, &arms).map(|table| ("effort".to_owned(), table)));
    files.table(COST, arms::cost_table(input, &arms));

    let temperatures = arms::temperatures(&arms);
    // A sweep of temperatures is about temperature: its other figures would only repeat each other.
    let apart = if temperatures.len() > 2 { &[] } else { &temperatures[..] };
    for temperature in apart {
        let suffix = match temperatures.len() {
            1 => String::new(),
            _ => format!("-t{temperature}"),
        };
        let shown = at_temperature(&arms, *temperature);
        files.figure(format!("accuracy-heat-map{suffix}"), heat_maps(input, &shown));
        let by_edges = by_value(input, &shown, &EDGES, "number of edges (calls)");
        files.figure(format!("accuracy-by-edges{suffix}"), by_edges);
        let by_depth = by_value(input, &shown, &DEPTH, "depth (calls)");
        files.figure(format!("accuracy-by-depth{suffix}"), by_depth);
        let by_training = by_training_graphs(input, &shown);
        files.figure(format!("accuracy-by-training-graphs{suffix}"), by_training);
    }
    if temperatures.len() > 1 {
        files.figure("accuracy-by-temperature", by_temperature(input, &arms));
    }
    comparisons::add(&mut files, input, &arms, &comparisons::SHARES);
    files
}

/// Bins as names on an axis.
fn texts(bins: &[Bin]) -> Vec<String> {
    bins.iter().map(Bin::to_string).collect()
}

fn at_temperature<'a>(arms: &[Arm<'a>], temperature: f64) -> Vec<Arm<'a>> {
    let at = arms.iter().filter(|arm| arm.temperature == temperature);
    at.map(|arm| Arm { runs: arm.runs.clone(), ..*arm }).collect()
}

fn overview(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut columns = vec![
        Column::text("generator"),
        Column::number("temperature", ""),
        Column::number("prompts", ""),
        Column::share("accuracy"),
    ];
    columns.extend(TRAIN_BINS.map(|bin| Column::share(format!("{bin} training graphs"))));
    let mut table = Table::new(format!("Accuracy: {}", input.title), columns);
    let bins = TRAIN_BINS.into_iter().map(|bin| WHOLE.train_graphs(bin));
    let metrics: Vec<(&str, Dimensions)> =
        std::iter::once(WHOLE).chain(bins).map(|about| (ACCURACY, about)).collect();
    for arm in arms {
        let head = vec![
            Cell::text(arm.label),
            Cell::text(arm.temperature.to_string()),
            Cell::Integer(arm.graphs()),
        ];
        table.push(arm.row(head, &metrics));
    }
    table.notes.push(
        "The last four columns put together the cells of the grid (edges, depth) that have so many training graphs; n/a where there is no such cell.".into(),
    );
    table.notes.extend(prompts_note(input, arms));
    table.notes.extend(notes(input, arms));
    table
}

/// What the prompts of a grid are, and how many of its cells have none.
fn prompts_note(input: &ReportInput, arms: &[Arm]) -> Option<String> {
    match *input.conditions? {
        Conditions::Grid { max_edges, max_depth, .. } => {
            let is_asked = |(edges, depth): &(u32, u32)| {
                let about = WHOLE.edges(*edges).depth(*depth);
                arms.iter().any(|arm| arm.estimate(ACCURACY, &about).is_some())
            };
            let cells = grid_cells(max_edges, max_depth).count();
            let asked = grid_cells(max_edges, max_depth).filter(is_asked).count();
            let from = match input.dataset.held_out.from.as_str() {
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
        Conditions::BorrowedGrid { .. } => Some(
            "Prompts have service and latency of test graphs near to their cell: they ask services for \
             shapes that these may never make."
                .to_owned(),
        ),
        Conditions::Test { .. } | Conditions::Instructions { .. } => None,
    }
}

/// Tables with a column per generator; a sweep of temperatures has a block of rows for each.
struct ByGenerator<'a, 'b> {
    arms: &'b [Arm<'a>],
    labels: Vec<&'a str>,
    temperatures: Vec<f64>,
}

impl<'a, 'b> ByGenerator<'a, 'b> {
    fn new(arms: &'b [Arm<'a>]) -> Self {
        Self { arms, labels: arms::labels(arms), temperatures: arms::temperatures(arms) }
    }

    fn arm(&self, label: &str, temperature: f64) -> Option<&Arm<'a>> {
        self.arms.iter().find(|arm| arm.label == label && arm.temperature == temperature)
    }

    /// Columns: the temperature where there are several, `head`, one per generator.
    fn table(&self, title: String, head: impl IntoIterator<Item = Column>) -> Table {
        let mut columns = Vec::new();
        if self.temperatures.len() > 1 {
            columns.push(Column::number("temperature", ""));
        }
        columns.extend(head);
        columns.extend(self.labels.iter().map(|label| Column::share(*label)));
        Table::new(title, columns)
    }

    fn row(
        &self,
        temperature: f64,
        head: impl IntoIterator<Item = Cell>,
        cell: impl Fn(&Arm) -> Cell,
    ) -> Vec<Cell> {
        let mut row = Vec::new();
        if self.temperatures.len() > 1 {
            row.push(Cell::text(temperature.to_string()));
        }
        row.extend(head);
        let cells = self.labels.iter().map(|label| self.arm(label, temperature));
        row.extend(cells.map(|arm| arm.map_or(Cell::Missing, &cell)));
        row
    }
}

/// Columns: the attribute, training graphs, one per generator.
fn by_attribute(input: &ReportInput, arms: &[Arm], attribute: &Attribute) -> Table {
    let by = ByGenerator::new(arms);
    let head = [Column::number(attribute.name, "calls"), Column::number("training graphs", "")];
    let mut table = by.table(format!("Accuracy by {}: {}", attribute.name, input.title), head);
    for temperature in &by.temperatures {
        for value in values_of(arms, ACCURACY, attribute.value) {
            let Some(number) = value.single() else { continue };
            let graphs = train_graphs(arms, |about| *(attribute.value)(about) == Some(value));
            let (head, about) = ([Cell::Integer(number.into()), graphs], attribute.is(value));
            table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, &about)));
        }
    }
    table.notes = notes(input, arms);
    table
}

/// Rows: small and large graphs, well and little known services; groups without prompts are left out.
fn by_group(input: &ReportInput, arms: &[Arm]) -> Table {
    let by = ByGenerator::new(arms);
    let head = [Column::text("prompts of"), Column::number("prompts", "")];
    let mut table = by.table(format!("Accuracy by group: {}", input.title), head);
    for temperature in &by.temperatures {
        for (group, _) in GROUPS {
            let about = WHOLE.group(group);
            let prompts = arms.iter().map(|arm| arm.answers(ACCURACY, &about)).max().unwrap_or(0);
            if prompts == 0 {
                continue;
            }
            let group = match group.strip_prefix("service ") {
                Some(bin) => format!("service with {bin} training graphs"),
                None => group.to_owned(),
            };
            let head = [Cell::text(group), Cell::Integer(prompts)];
            table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, &about)));
        }
    }
    table.notes = notes(input, arms);
    table
}

/// Training graphs of all cells of the grid that are `inside`.
fn train_graphs(arms: &[Arm], inside: impl Fn(&Dimensions) -> bool) -> Cell {
    let Some(arm) = arms.iter().find(|arm| !arm.dimensions_of(TRAIN_GRAPHS).is_empty()) else {
        return Cell::Missing;
    };
    let inside = arm.dimensions_of(TRAIN_GRAPHS).into_iter().filter(|about| inside(about));
    let graphs = inside.filter_map(|about| arm.estimate(TRAIN_GRAPHS, about));
    Cell::Integer(graphs.map(|graphs| graphs.value.round() as u64).sum())
}

/// Rows: violation codes, most frequent over all arms first. A code that an arm never met is 0.
fn failures(input: &ReportInput, arms: &[Arm]) -> Table {
    let by = ByGenerator::new(arms);
    let head = [Column::text("first violation")];
    let mut table = by.table(format!("Why answers fail: {}", input.title), head);
    let mut codes: BTreeMap<Name, u64> = BTreeMap::new();
    for arm in arms {
        let records = arm.runs.iter().filter_map(|run| run.outcome.as_ref().ok()).flatten();
        for record in records.filter(|record| record.metric == FAILURE) {
            let hits = (record.value * record.count as f64).round() as u64;
            if let Some(code) = &record.dimensions.code {
                *codes.entry(code.clone()).or_insert(0) += hits;
            }
        }
    }
    let mut codes: Vec<(Name, u64)> = codes.into_iter().collect();
    codes.sort_by_key(|(_, hits)| std::cmp::Reverse(*hits));
    for temperature in &by.temperatures {
        let head = [Cell::text("(none: accurate)")];
        table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, &WHOLE)));
        for (code, _) in &codes {
            let (head, about) = ([Cell::text(code.as_str())], WHOLE.code(code.clone()));
            table.push(by.row(*temperature, head, |arm| failure_cell(arm, &about)));
        }
    }
    table.notes = notes(input, arms);
    table
}

/// Seeds without a record of the code have met it in none of their prompts.
fn failure_cell(arm: &Arm, about: &Dimensions) -> Cell {
    if arm.failure().is_some() {
        return Cell::Failed(String::new());
    }
    let records = arm.runs.iter().filter_map(|run| {
        let records = run.outcome.as_ref().ok()?;
        let found = records.iter().find(|record| record.is(FAILURE, about));
        found.cloned().or_else(|| {
            let whole = records.iter().find(|record| record.is(ACCURACY, &WHOLE))?;
            let Interval { low, high } = Interval::wilson(0, whole.count);
            let value = if whole.count == 0 { f64::NAN } else { 0.0 };
            Some(Record { value, low, high, ..whole.clone() })
        })
    });
    let records: Vec<_> = records.collect();
    let combined = arms::combine(FAILURE, &records.iter().collect::<Vec<_>>());
    combined.map_or(Cell::Missing, |combined| table_cell(FAILURE, combined))
}

/// One panel per arm that has results.
fn heat_maps(input: &ReportInput, arms: &[Arm]) -> Figure {
    let [edges, depths] = [EDGES, DEPTH].map(|by| values_of(arms, ACCURACY, by.value));
    let mut dots = false;
    let panels = arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| {
        let mut map = HeatMap { columns: edges.len(), rows: depths.len(), ..HeatMap::default() };
        for (column, e) in edges.iter().enumerate() {
            for (row, d) in depths.iter().enumerate() {
                let about = WHOLE.edges(*e).depth(*d);
                let Some(share) = arm.estimate(ACCURACY, &about) else { continue };
                map.cells.insert((column, row), share.value);
                if arm.estimate(TRAIN_GRAPHS, &about).is_some_and(|graphs| graphs.value == 0.0) {
                    map.dotted.insert((column, row));
                    dots = true;
                }
            }
        }
        Panel {
            title: arm.label.to_owned(),
            x: Axis::names("number of edges (calls)", texts(&edges)),
            y: Axis::names("depth (calls)", texts(&depths)),
            content: Content::HeatMap(map),
        }
    });
    let panels = panels.collect();
    let mut lines = vec!["Accuracy in %; hatched: not possible or not asked for.".to_owned()];
    if dots {
        lines[0].push_str(" A dot: no training graph has this number of edges and depth.");
    }
    let count =
        "Single cells are uncertain (±31 points at 10 prompts, ±14 at 50): read rows and columns.";
    lines.push(count.to_owned());
    lines.extend(prompts_note(input, arms));
    lines.extend(background(input, arms));
    Figure {
        title: format!("Accuracy by number of edges and depth: {}", input.title),
        panels,
        across: 1,
        width: PAGE,
        row_height: 58.0 + 17.5 * depths.len().max(1) as f64,
        notes: lines,
    }
}

/// Accuracy along one attribute, a line per arm.
fn by_value(input: &ReportInput, arms: &[Arm], attribute: &Attribute, label: &str) -> Figure {
    let values = values_of(arms, ACCURACY, attribute.value);
    let values: Vec<u32> = values.into_iter().filter_map(Bin::single).collect();
    let lines = arms.iter().map(|arm| Line {
        label: arm.label.to_owned(),
        style: arm.style,
        points: values
            .iter()
            .map(|value| ((*value).into(), arm.bounded(ACCURACY, &attribute.is((*value).into()))))
            .collect(),
        markers: true,
    });
    let lines = Lines { lines: lines.collect(), levels: Vec::new() };
    let (first, last) = (values.first().copied().unwrap_or(1), values.last().copied().unwrap_or(1));
    let panel = Panel {
        title: String::new(),
        x: Axis::linear(label, f64::from(first) - 0.5, f64::from(last) + 0.5).whole(),
        y: Axis::share("accuracy (%)"),
        content: Content::Lines(lines),
    };
    column_figure(input, arms, format!("Accuracy by {}: {}", attribute.name, input.title), panel)
}

fn column_figure(input: &ReportInput, arms: &[Arm], title: String, panel: Panel) -> Figure {
    let notes = figure_notes(input, arms);
    Figure { title, panels: vec![panel], across: 1, width: COLUMN, row_height: 240.0, notes }
}

fn by_training_graphs(input: &ReportInput, arms: &[Arm]) -> Figure {
    let series = arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| BarSeries {
        label: arm.label.to_owned(),
        style: arm.style,
        values: TRAIN_BINS.map(|bin| arm.bounded(ACCURACY, &WHOLE.train_graphs(bin))).to_vec(),
    });
    let panel = Panel {
        title: String::new(),
        x: Axis::names(
            "training graphs with the prompt's number of edges and depth",
            TRAIN_BINS.map(|bin| bin.to_string().replace('-', "–")).to_vec(),
        ),
        y: Axis::share("accuracy (%)"),
        content: Content::Bars(Bars { backdrop: None, series: series.collect() }),
    };
    column_figure(input, arms, format!("Accuracy by training graphs: {}", input.title), panel)
}

fn by_temperature(input: &ReportInput, arms: &[Arm]) -> Figure {
    let by = ByGenerator::new(arms);
    let lines = by.labels.iter().map(|label| {
        let at = |temperature: &f64| {
            let arm = by.arm(label, *temperature);
            (*temperature, arm.map_or(Bounded::NONE, |arm| arm.bounded(ACCURACY, &WHOLE)))
        };
        let first = arms.iter().position(|arm| arm.label == *label).unwrap_or(0);
        Line {
            label: (*label).to_owned(),
            style: arms[first].style,
            points: by.temperatures.iter().map(at).collect(),
            markers: true,
        }
    });
    let lines = Lines { lines: lines.collect(), levels: Vec::new() };
    let last = by.temperatures.last().copied().unwrap_or(1.0);
    let panel = Panel {
        title: String::new(),
        x: Axis::linear("temperature", by.temperatures[0] - 0.03, last + 0.03),
        y: Axis::share("accuracy (%)"),
        content: Content::Lines(lines),
    };
    column_figure(input, arms, format!("Accuracy by temperature: {}", input.title), panel)
}
