//! Popular calls, heavy hitters and sizes against real graphs.

use super::arms::{self, Arm, COST, combine, name, table_cell, unit, values_of};
use super::figure::{
    Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, Line, Lines, PAGE, Panel, Style,
};
use super::notes::{figure_notes, list, notes};
use super::table::{Cell, Column, Table};
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::display;
use crate::evaluate::Record;
use crate::evaluate::accuracy::ACCURACY;
use crate::evaluate::fidelity::VALID;
use crate::evaluate::heavy_hitters::HEAVY_HITTERS;
use crate::evaluate::metric::Family;
use crate::evaluate::popular_calls::{
    KL_TOP100, KL_TOP100_OTHER, POPULAR_CALL, PopularCall, REAL, SYNTHETIC,
};
use crate::evaluate::shape::{DEPTH_TV, EDGES_TV, LATENCY_KS};
use crate::graph::Communication;

/// Rows of the floor: label, what its cells end in, and whether it has heavy hitters.
const FLOORS: [(&str, Option<&str>); 2] =
    [("real (half against half)", None), ("real (training against test)", Some("graphs=train"))];

/// Columns of the overview: heading, metric, cell.
const OVERVIEW: [(&str, &str, &str); 9] = [
    ("valid", VALID, ""),
    ("accuracy", ACCURACY, ""),
    ("KL top 100, valid", KL_TOP100, "graphs=valid"),
    ("KL top 100, all", KL_TOP100, "graphs=all"),
    ("KL top 100 + other, valid", KL_TOP100_OTHER, "graphs=valid"),
    ("KL top 100 + other, all", KL_TOP100_OTHER, "graphs=all"),
    ("TV edges", EDGES_TV, ""),
    ("TV depth", DEPTH_TV, ""),
    ("KS latency", LATENCY_KS, ""),
];

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("fidelity", overview(input, &arms));
    files.table("heavy-hitters", heavy_hitters(input, &arms));
    files.table("popular-calls", popular_calls(input, &arms));
    files.table("edges", sizes(input, &arms, "edges"));
    files.table("depth", sizes(input, &arms, "depth"));
    files.table("published", published::compare(input, &arms, Family::Fidelity));
    files.tables.extend(arms::effort_table(input, &arms).map(|table| ("effort".to_owned(), table)));
    files.table(COST, arms::cost_table(input, &arms));
    files.figure("divergence", divergence_figure(input, &arms));
    // Series of one colour cannot be told apart; the tables have them all.
    let drawn = arms::drawn(input);
    if drawn.len() <= super::MAX_DRAWN {
        files.figure("popular-calls", popular_calls_figure(input, &drawn));
        files.figure("heavy-hitters", heavy_hitters_figure(input, &drawn));
        files.figure("sizes", sizes_figure(input, &drawn));
    }
    comparisons::add(&mut files, input, &arms, &comparisons::SHARES);
    files
}

/// The floor's number; `None` where it has none.
pub fn floor_value(floor: Option<&[Record]>, metric: &str, cell: &str) -> Option<Bounded> {
    let records = floor?.iter().filter(|record| record.metric == metric && record.cell == cell);
    combine(metric, &records.collect::<Vec<_>>())
}

fn floor_cell(input: &ReportInput, metric: &str, cell: &str) -> Cell {
    floor_value(input.floor, metric, cell).map_or(Cell::Missing, |value| table_cell(metric, value))
}

fn overview(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut columns = vec![Column::text("generator"), Column::number("answers", "")];
    columns.extend(OVERVIEW.map(|(heading, metric, _)| Column::estimate(heading, unit(metric))));
    let mut table = Table::new(format!("Fidelity: {}", input.title), columns);
    for (label, other_cell) in FLOORS.iter().filter(|_| input.floor.is_some()) {
        let mut row = vec![Cell::text(*label), Cell::Missing];
        row.extend(
            OVERVIEW.map(|(_, metric, cell)| floor_cell(input, metric, other_cell.unwrap_or(cell))),
        );
        table.push(row);
    }
    let metrics = OVERVIEW.map(|(_, metric, cell)| (metric, cell));
    for arm in arms {
        let head = vec![Cell::text(name(arm, arms)), Cell::Integer(arm.graphs())];
        table.push(arm.row(head, &metrics));
    }
    table.notes.push(
        "KL: divergence of the real from the synthetic distribution of the 100 most popular real calls, smoothed by half a call each; it does not see calls outside the 100, which `+ other` puts into one bucket. TV: total variation distance, KS: Kolmogorov-Smirnov distance, of valid graphs. For all of them lower is better, and the rows of real graphs show what two samples of the truth reach."
            .into(),
    );
    table.notes.extend(notes(input, arms));
    table
}

/// Values of K in the records of arms or floor.
fn ks(arms: &[Arm]) -> Vec<String> {
    values_of(arms, HEAVY_HITTERS, "k")
}

fn heavy_hitters(input: &ReportInput, arms: &[Arm]) -> Table {
    let ks = ks(arms);
    let mut columns = vec![Column::text("generator")];
    columns.extend(ks.iter().map(|k| Column::share(format!("K = {k}"))));
    let mut table =
        Table::new(format!("Overlap of the K most called microservices: {}", input.title), columns);
    let cells: Vec<String> = ks.iter().map(|k| format!("k={k}")).collect();
    let metrics: Vec<(&str, &str)> =
        cells.iter().map(|cell| (HEAVY_HITTERS, cell.as_str())).collect();
    if input.floor.is_some() {
        let mut row = vec![Cell::text(FLOORS[0].0)];
        row.extend(metrics.iter().map(|(metric, cell)| floor_cell(input, metric, cell)));
        table.push(row);
    }
    for arm in arms {
        table.push(arm.row(vec![Cell::text(name(arm, arms))], &metrics));
    }
    table.notes.push(
        "n/a: the real graphs have no more than K microservices, so that all of them would count."
            .into(),
    );
    table.notes.extend(notes(input, arms));
    table
}

/// The popular calls in order of rank.
fn calls(arms: &[Arm]) -> Vec<PopularCall> {
    let Some(arm) = arms.iter().find(|arm| !arm.cells_of(POPULAR_CALL).is_empty()) else {
        return Vec::new();
    };
    let cells = arm.cells_of(POPULAR_CALL).into_iter().filter_map(PopularCall::read);
    let mut calls: Vec<PopularCall> =
        cells.filter_map(|(side, call)| (side == REAL).then_some(call)).collect();
    calls.sort();
    calls
}

fn call_value(arm: &Arm, side: &str, call: &PopularCall) -> Option<Bounded> {
    arm.estimate(POPULAR_CALL, &call.cell(side))
}

/// What is real is the same for all arms.
fn real_value(arms: &[Arm], value: impl Fn(&Arm) -> Option<Bounded>) -> Bounded {
    arms.iter().find_map(value).unwrap_or(Bounded::NONE)
}

fn popular_calls(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut columns = vec![
        Column::number("rank", ""),
        Column::text("source"),
        Column::text("destination"),
        Column::text("type"),
        Column::share("real"),
    ];
    columns.extend(arms.iter().map(|arm| Column::share(name(arm, arms))));
    let mut table = Table::new(format!("Most popular real calls: {}", input.title), columns);
    for popular in calls(arms) {
        let real = real_value(arms, |arm| call_value(arm, REAL, &popular));
        let Communication { source, destination, kind } = &popular.call;
        let mut row = vec![
            Cell::Integer(popular.rank),
            Cell::text(source.as_str()),
            Cell::text(destination.as_str()),
            Cell::text(kind.as_str()),
            table_cell(POPULAR_CALL, real),
        ];
        let cell = popular.cell(SYNTHETIC);
        row.extend(arms.iter().map(|arm| arm.cell(POPULAR_CALL, &cell)));
        table.push(row);
    }
    table
        .notes
        .push("Share of all calls of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(notes(input, arms));
    table
}

/// Shares of graphs by number of edges or depth.
fn sizes(input: &ReportInput, arms: &[Arm], attribute: &str) -> Table {
    let metric = format!("{attribute}-share/1");
    let mut columns = vec![Column::text(format!("{attribute} (calls)")), Column::share("real")];
    columns[0].align = super::table::Align::Right;
    columns.extend(arms.iter().map(|arm| Column::share(name(arm, arms))));
    let mut table = Table::new(format!("Graphs by {attribute}: {}", input.title), columns);
    for value in values_of(arms, &metric, attribute) {
        let cell = |side: &str| format!("{attribute}={value}/side={side}");
        let real = real_value(arms, |arm| arm.estimate(&metric, &cell("real")));
        let mut row = vec![Cell::text(value.clone()), table_cell(&metric, real)];
        row.extend(arms.iter().map(|arm| arm.cell(&metric, &cell("synthetic"))));
        table.push(row);
    }
    table.notes.push("Share of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(notes(input, arms));
    table
}

/// Divergence of the popular calls, a place on the axis for each arm.
fn divergence_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let shown: Vec<&Arm> = arms.iter().filter(|arm| arm.failure().is_none()).collect();
    let series = [("valid graphs", "graphs=valid"), ("all answers", "graphs=all")];
    let series = series.iter().enumerate().map(|(index, (label, cell))| {
        let floor = FLOORS.iter().filter(|_| input.floor.is_some()).map(|(_, other)| {
            let cell = other.unwrap_or(cell);
            floor_value(input.floor, KL_TOP100_OTHER, cell).unwrap_or(Bounded::NONE)
        });
        let values =
            floor.chain(shown.iter().map(|arm| arm.bounded(KL_TOP100_OTHER, cell))).collect();
        BarSeries { label: (*label).to_owned(), style: Style::Generator(index), values }
    });
    let bars = Bars { backdrop: None, series: series.collect() };
    let floors = FLOORS.iter().filter(|_| input.floor.is_some()).map(|(label, _)| (*label).into());
    let names = floors.chain(shown.iter().map(|arm| name(arm, arms)));
    let panel = Panel {
        title: String::new(),
        x: Axis::names("", names.collect()),
        y: Axis::from_zero("KL divergence (nats)", bars.values()),
        content: Content::Bars(bars),
    };
    let mut notes = vec![
        "Divergence of the real from the synthetic distribution of the 100 most popular real calls and one bucket for all others; lower is better, and the rows of real graphs show what two samples of the truth reach."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Divergence of calls: {}", input.title),
        panels: vec![panel],
        across: 1,
        width: PAGE,
        row_height: 300.0,
        notes,
    }
}

/// Characters of a name in a figure.
const LONGEST: usize = 26;
/// Share of valid answers from which an arm is drawn among the popular calls.
const LEAST_VALID: f64 = 0.01;

fn popular_calls_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let calls = calls(arms);
    let real = BarSeries {
        label: "real".into(),
        style: Style::Real,
        values: calls
            .iter()
            .map(|call| real_value(arms, |arm| call_value(arm, REAL, call)))
            .collect(),
    };
    // A handful of graphs may be all of one call, beside which no other share could be read.
    let (shown, few): (Vec<&Arm>, Vec<&Arm>) = arms
        .iter()
        .filter(|arm| arm.failure().is_none())
        .partition(|arm| arm.estimate(VALID, "").is_none_or(|valid| valid.value >= LEAST_VALID));
    let series = shown.iter().map(|arm| BarSeries {
        label: name(arm, arms),
        style: arm.style,
        values: calls
            .iter()
            .map(|call| call_value(arm, SYNTHETIC, call).unwrap_or(Bounded::NONE))
            .collect(),
    });
    let bars = Bars { backdrop: Some(real), series: series.collect() };
    let names = calls.iter().map(|PopularCall { call, .. }| {
        format!("{} → {} {}", cut(&call.source), cut(&call.destination), call.kind)
    });
    let mut notes = figure_notes(input, arms);
    if !few.is_empty() {
        let few: Vec<String> = few.iter().map(|arm| name(arm, arms)).collect();
        notes.push(format!("Not drawn, as hardly an answer is valid: {}.", list(&few)));
    }
    let panel = Panel {
        title: String::new(),
        x: Axis::names("call (source → destination, type)", names.collect()),
        y: Axis::from_zero("share of all calls (%)", bars.values()).percent(),
        content: Content::Bars(bars),
    };
    Figure {
        title: format!("The most popular real calls: {}", input.title),
        panels: vec![panel],
        across: 1,
        width: PAGE,
        row_height: 330.0,
        notes,
    }
}

/// The end of a name that is too long for an axis, which says most; tables have all of it.
fn cut(name: &str) -> String {
    let name = display::name(name);
    let length = name.chars().count();
    match length > LONGEST {
        true => format!("…{}", name.chars().skip(length - LONGEST + 1).collect::<String>()),
        false => name.into_owned(),
    }
}

fn heavy_hitters_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let ks = ks(arms);
    let cells: Vec<String> = ks.iter().map(|k| format!("k={k}")).collect();
    let value = |value: Option<Bounded>| value.unwrap_or(Bounded::NONE);
    let mut series = Vec::new();
    if input.floor.is_some() {
        let floor = |cell| value(floor_value(input.floor, HEAVY_HITTERS, cell));
        series.push(BarSeries {
            label: FLOORS[0].0.to_owned(),
            style: Style::Real,
            values: cells.iter().map(|cell| floor(cell)).collect(),
        });
    }
    series.extend(arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| BarSeries {
        label: name(arm, arms),
        style: arm.style,
        values: cells.iter().map(|cell| arm.bounded(HEAVY_HITTERS, cell)).collect(),
    }));
    let panel = Panel {
        title: String::new(),
        x: Axis::names("K (microservices)", ks),
        y: Axis::share("overlap of the top K (%)"),
        content: Content::Bars(Bars { backdrop: None, series }),
    };
    let mut notes = vec![
        "Bars show the spread of repeats with 1,000 graphs each, or all there are. No bar: K or fewer microservices in the real graphs."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Overlap of the most called microservices: {}", input.title),
        panels: vec![panel],
        across: 1,
        width: COLUMN,
        row_height: 240.0,
        notes,
    }
}

fn sizes_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let mut notes =
        vec!["Real: test graphs; generators: valid graphs. Shares of 0 are not drawn.".into()];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Graphs by number of edges and depth: {}", input.title),
        panels: vec![
            size_panel(arms, "edges", "number of edges (calls)"),
            size_panel(arms, "depth", "depth (calls)"),
        ],
        across: 2,
        width: PAGE,
        row_height: 240.0,
        notes,
    }
}

fn size_panel(arms: &[Arm], attribute: &str, label: &str) -> Panel {
    let metric = format!("{attribute}-share/1");
    let mut values = values_of(arms, &metric, attribute);
    let at = |value: &str, side: &str, arm: &Arm| {
        // A logarithmic axis has no place for 0.
        arm.estimate(&metric, &format!("{attribute}={value}/side={side}"))
            .filter(|share| share.value > 0.0)
    };
    // Depths end where nobody has a graph any more.
    let sides = ["real", "synthetic"];
    let used = |value: &String| {
        arms.iter().any(|arm| sides.iter().any(|side| at(value, side, arm).is_some()))
    };
    values.truncate(values.iter().rposition(used).map_or(0, |last| last + 1));
    let points = |share: &dyn Fn(&str) -> Bounded| {
        values.iter().enumerate().map(|(place, value)| (place as f64, share(value))).collect()
    };
    let mut lines = vec![Line {
        label: "real".to_owned(),
        style: Style::Real,
        points: points(&|value| real_value(arms, |arm| at(value, "real", arm))),
        markers: true,
    }];
    lines.extend(arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| Line {
        label: name(arm, arms),
        style: arm.style,
        points: points(&|value| at(value, "synthetic", arm).unwrap_or(Bounded::NONE)),
        markers: true,
    }));
    let shares: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|(_, share)| share.value)).collect();
    Panel {
        title: String::new(),
        x: Axis::names(label, values),
        y: Axis::log("share of graphs (%)", shares).percent(),
        content: Content::Lines(Lines { lines, levels: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_ends() {
        assert_eq!(cut("MS_00001"), "MS_00001");
        let long = "ts-route-service/SELECT ts.routes";
        assert_eq!(cut(long), "…-service/SELECT ts.routes");
        assert_eq!(cut(long).chars().count(), LONGEST);
    }
}
