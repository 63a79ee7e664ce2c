//! Accuracy by number of edges, depth, temperature and training data.

use std::collections::BTreeMap;

use super::arms::{self, Arm, COST, table_cell, values_of};
use super::figure::{
    Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, HeatMap, Line, Lines, PAGE, Panel,
};
use super::notes::{background, figure_notes, notes};
use super::table::{Cell, Column, Table};
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::evaluate::Interval;
use crate::evaluate::accuracy::{ACCURACY, FAILURE, GROUPS, TRAIN_GRAPHS};
use crate::evaluate::metric::Family;

/// How many training graphs a cell of the grid has.
const TRAIN_BINS: [&str; 4] = ["0", "1-4", "5-19", "20+"];

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("accuracy", overview(input, &arms));
    for by in ["depth", "edges"] {
        files.table(&format!("accuracy-by-{by}"), by_attribute(input, &arms, by));
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
        let by_edges = by_value(input, &shown, "edges", "number of edges (calls)");
        files.figure(format!("accuracy-by-edges{suffix}"), by_edges);
        let by_depth = by_value(input, &shown, "depth", "depth (calls)");
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
    let bins = TRAIN_BINS.map(|bin| format!("train-graphs={bin}"));
    columns.extend(TRAIN_BINS.map(|bin| Column::share(format!("{bin} training graphs"))));
    let mut table = Table::new(format!("Accuracy: {}", input.title), columns);
    let metrics: Vec<(&str, &str)> =
        std::iter::once("").chain(bins.iter().map(String::as_str)).map(|c| (ACCURACY, c)).collect();
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
    table.notes.extend(notes(input, arms));
    table
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
fn by_attribute(input: &ReportInput, arms: &[Arm], attribute: &str) -> Table {
    let by = ByGenerator::new(arms);
    let head = [Column::number(attribute, "calls"), Column::number("training graphs", "")];
    let mut table = by.table(format!("Accuracy by {attribute}: {}", input.title), head);
    for temperature in &by.temperatures {
        for value in values_of(arms, ACCURACY, attribute) {
            let Ok(number) = value.parse() else { continue };
            let cell = format!("{attribute}={value}");
            let head = [Cell::Integer(number), train_graphs(arms, &cell)];
            table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, &cell)));
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
            let cell = format!("group={group}");
            let prompts = arms.iter().map(|arm| arm.answers(ACCURACY, &cell)).max().unwrap_or(0);
            if prompts == 0 {
                continue;
            }
            let group = match group.strip_prefix("service ") {
                Some(bin) => format!("service with {bin} training graphs"),
                None => group.to_owned(),
            };
            let head = [Cell::text(group), Cell::Integer(prompts)];
            table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, &cell)));
        }
    }
    table.notes = notes(input, arms);
    table
}

/// Training graphs of all cells of the grid that lie in `part` (`depth=3`).
fn train_graphs(arms: &[Arm], part: &str) -> Cell {
    let Some(arm) = arms.iter().find(|arm| !arm.cells_of(TRAIN_GRAPHS).is_empty()) else {
        return Cell::Missing;
    };
    let cells = arm.cells_of(TRAIN_GRAPHS).into_iter();
    let inside = cells.filter(|cell| cell.split('/').any(|other| other == part));
    let graphs = inside.filter_map(|cell| arm.estimate(TRAIN_GRAPHS, cell));
    Cell::Integer(graphs.map(|graphs| graphs.value.round() as u64).sum())
}

/// Rows: violation codes, most frequent over all arms first. A code that an arm never met is 0.
fn failures(input: &ReportInput, arms: &[Arm]) -> Table {
    let by = ByGenerator::new(arms);
    let head = [Column::text("first violation")];
    let mut table = by.table(format!("Why answers fail: {}", input.title), head);
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for arm in arms {
        let records = arm.runs.iter().filter_map(|run| run.outcome.as_ref().ok()).flatten();
        for record in records.filter(|record| record.metric == FAILURE) {
            let hits = (record.value * record.count as f64).round() as u64;
            *codes.entry(record.cell.clone()).or_insert(0) += hits;
        }
    }
    let mut codes: Vec<(String, u64)> = codes.into_iter().collect();
    codes.sort_by_key(|(_, hits)| std::cmp::Reverse(*hits));
    for temperature in &by.temperatures {
        let head = [Cell::text("(none: accurate)")];
        table.push(by.row(*temperature, head, |arm| arm.cell(ACCURACY, "")));
        for (cell, _) in &codes {
            let head = [Cell::text(cell.strip_prefix("code=").unwrap_or(cell))];
            table.push(by.row(*temperature, head, |arm| failure_cell(arm, cell)));
        }
    }
    table.notes = notes(input, arms);
    table
}

/// Seeds without a record of the code have met it in none of their prompts.
fn failure_cell(arm: &Arm, cell: &str) -> Cell {
    if arm.failure().is_some() {
        return Cell::Failed(String::new());
    }
    let records = arm.runs.iter().filter_map(|run| {
        let records = run.outcome.as_ref().ok()?;
        let found = records.iter().find(|record| record.metric == FAILURE && record.cell == cell);
        found.cloned().or_else(|| {
            let whole = records.iter().find(|r| r.metric == ACCURACY && r.cell.is_empty())?;
            let Interval { low, high } = Interval::wilson(0, whole.count);
            let value = if whole.count == 0 { f64::NAN } else { 0.0 };
            Some(crate::evaluate::Record { value, low, high, ..whole.clone() })
        })
    });
    let records: Vec<_> = records.collect();
    let combined = arms::combine(FAILURE, &records.iter().collect::<Vec<_>>());
    combined.map_or(Cell::Missing, |combined| table_cell(FAILURE, combined))
}

fn cell_of(edges: &str, depth: &str) -> String {
    format!("edges={edges}/depth={depth}")
}

/// One panel per arm that has results.
fn heat_maps(input: &ReportInput, arms: &[Arm]) -> Figure {
    let (edges, depths) = (values_of(arms, ACCURACY, "edges"), values_of(arms, ACCURACY, "depth"));
    let mut dots = false;
    let panels = arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| {
        let mut map = HeatMap { columns: edges.len(), rows: depths.len(), ..HeatMap::default() };
        for (column, e) in edges.iter().enumerate() {
            for (row, d) in depths.iter().enumerate() {
                let cell = cell_of(e, d);
                let Some(share) = arm.estimate(ACCURACY, &cell) else { continue };
                map.cells.insert((column, row), share.value);
                if arm.estimate(TRAIN_GRAPHS, &cell).is_some_and(|graphs| graphs.value == 0.0) {
                    map.dotted.insert((column, row));
                    dots = true;
                }
            }
        }
        Panel {
            title: arm.label.to_owned(),
            x: Axis::names("number of edges (calls)", edges.clone()),
            y: Axis::names("depth (calls)", depths.clone()),
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
fn by_value(input: &ReportInput, arms: &[Arm], attribute: &str, label: &str) -> Figure {
    let values: Vec<f64> = values_of(arms, ACCURACY, attribute)
        .iter()
        .filter_map(|value| value.parse().ok())
        .collect();
    let lines = arms.iter().map(|arm| Line {
        label: arm.label.to_owned(),
        style: arm.style,
        points: values
            .iter()
            .map(|value| (*value, arm.bounded(ACCURACY, &format!("{attribute}={value}"))))
            .collect(),
        markers: true,
    });
    let lines = Lines { lines: lines.collect(), levels: Vec::new() };
    let (first, last) = (values.first().unwrap_or(&1.0), values.last().unwrap_or(&1.0));
    let panel = Panel {
        title: String::new(),
        x: Axis::linear(label, first - 0.5, last + 0.5).whole(),
        y: Axis::share("accuracy (%)"),
        content: Content::Lines(lines),
    };
    column_figure(input, arms, format!("Accuracy by {attribute}: {}", input.title), panel)
}

fn column_figure(input: &ReportInput, arms: &[Arm], title: String, panel: Panel) -> Figure {
    let notes = figure_notes(input, arms);
    Figure { title, panels: vec![panel], across: 1, width: COLUMN, row_height: 240.0, notes }
}

fn by_training_graphs(input: &ReportInput, arms: &[Arm]) -> Figure {
    let series = arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| BarSeries {
        label: arm.label.to_owned(),
        style: arm.style,
        values: TRAIN_BINS
            .map(|bin| arm.bounded(ACCURACY, &format!("train-graphs={bin}")))
            .to_vec(),
    });
    let panel = Panel {
        title: String::new(),
        x: Axis::names(
            "training graphs with the prompt's number of edges and depth",
            TRAIN_BINS.map(|bin| bin.replace('-', "–")).to_vec(),
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
            (*temperature, arm.map_or(Bounded::NONE, |arm| arm.bounded(ACCURACY, "")))
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
