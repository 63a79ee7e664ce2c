//! Popular calls, heavy hitters and sizes against real graphs.

use super::arms::{self, Arm, COST, combine, name, table_cell, unit, values_of};
use super::figure::{
    Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, Line, Lines, PAGE, Panel, Style,
};
use super::notes::{figure_notes, list, notes};
use super::table::{Cell, Column, Table};
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::display;
use crate::evaluate::accuracy::ACCURACY;
use crate::evaluate::fidelity::VALID;
use crate::evaluate::heavy_hitters::HEAVY_HITTERS;
use crate::evaluate::metric::Family;
use crate::evaluate::popular_calls::{
    KL_TOP100, KL_TOP100_OTHER, POPULAR_CALL, PopularCall, REAL, SYNTHETIC,
};
use crate::evaluate::shape::{DEPTH_SHARE, DEPTH_TV, EDGES_SHARE, EDGES_TV, LATENCY_KS};
use crate::evaluate::{Bin, Dimensions, Record, WHOLE};
use crate::graph::Communication;

/// Rows of the floor: label, and whose graphs its records are about, if it is not the entry's.
const FLOORS: [(&str, Option<&str>); 2] =
    [("real (half against half)", None), ("real (training against test)", Some("train"))];

/// What a row of the floor has for a number of the arms.
fn of_floor(about: &Dimensions, graphs: Option<&str>) -> Dimensions {
    graphs.map_or_else(|| about.clone(), |graphs| WHOLE.graphs(graphs))
}

/// Columns of the overview: heading, metric, what its numbers are about.
fn columns() -> [(&'static str, &'static str, Dimensions); 9] {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    [
        ("valid", VALID, WHOLE),
        ("accuracy", ACCURACY, WHOLE),
        ("KL top 100, valid", KL_TOP100, valid.clone()),
        ("KL top 100, all", KL_TOP100, all.clone()),
        ("KL top 100 + other, valid", KL_TOP100_OTHER, valid),
        ("KL top 100 + other, all", KL_TOP100_OTHER, all),
        ("TV edges", EDGES_TV, WHOLE),
        ("TV depth", DEPTH_TV, WHOLE),
        ("KS latency", LATENCY_KS, WHOLE),
    ]
}

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("fidelity", overview(input, &arms));
    files.table("heavy-hitters", heavy_hitters(input, &arms));
    files.table("popular-calls", popular_calls(input, &arms));
    files.table("edges", sizes(input, &arms, &EDGES));
    files.table("depth", sizes(input, &arms, &DEPTH));
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
pub fn floor_value(floor: Option<&[Record]>, metric: &str, about: &Dimensions) -> Option<Bounded> {
    let records = floor?.iter().filter(|record| record.is(metric, about));
    combine(metric, &records.collect::<Vec<_>>())
}

fn floor_cell(input: &ReportInput, metric: &str, about: &Dimensions) -> Cell {
    floor_value(input.floor, metric, about).map_or(Cell::Missing, |value| table_cell(metric, value))
}

fn overview(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut columns = vec![Column::text("generator"), Column::number("answers", "")];
    let entries = self::columns();
    columns.extend(entries.iter().map(|(name, metric, _)| Column::estimate(*name, unit(metric))));
    let mut table = Table::new(format!("Fidelity: {}", input.title), columns);
    for (label, graphs) in FLOORS.iter().filter(|_| input.floor.is_some()) {
        let mut row = vec![Cell::text(*label), Cell::Missing];
        row.extend(
            entries
                .iter()
                .map(|(_, metric, about)| floor_cell(input, metric, &of_floor(about, *graphs))),
        );
        table.push(row);
    }
    let metrics = entries.map(|(_, metric, about)| (metric, about));
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
fn ks(arms: &[Arm]) -> Vec<u32> {
    values_of(arms, HEAVY_HITTERS, |about| &about.k)
}

fn heavy_hitters(input: &ReportInput, arms: &[Arm]) -> Table {
    let ks = ks(arms);
    let mut columns = vec![Column::text("generator")];
    columns.extend(ks.iter().map(|k| Column::share(format!("K = {k}"))));
    let mut table =
        Table::new(format!("Overlap of the K most called microservices: {}", input.title), columns);
    let metrics: Vec<(&str, Dimensions)> =
        ks.iter().map(|k| (HEAVY_HITTERS, WHOLE.k(*k))).collect();
    if input.floor.is_some() {
        let mut row = vec![Cell::text(FLOORS[0].0)];
        row.extend(metrics.iter().map(|(metric, about)| floor_cell(input, metric, about)));
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
    let Some(arm) = arms.iter().find(|arm| !arm.dimensions_of(POPULAR_CALL).is_empty()) else {
        return Vec::new();
    };
    let about = arm.dimensions_of(POPULAR_CALL).into_iter();
    let real = about.filter(|about| about.side.as_deref() == Some(REAL));
    let mut calls: Vec<PopularCall> = real
        .filter_map(|about| Some(PopularCall { rank: about.rank?, call: about.call.clone()? }))
        .collect();
    calls.sort();
    calls
}

fn call_value(arm: &Arm, side: &str, call: &PopularCall) -> Option<Bounded> {
    arm.estimate(POPULAR_CALL, &call.dimensions(side))
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
            Cell::Integer(popular.rank.into()),
            Cell::text(source.as_str()),
            Cell::text(destination.as_str()),
            Cell::text(kind.as_str()),
            table_cell(POPULAR_CALL, real),
        ];
        let about = popular.dimensions(SYNTHETIC);
        row.extend(arms.iter().map(|arm| arm.cell(POPULAR_CALL, &about)));
        table.push(row);
    }
    table
        .notes
        .push("Share of all calls of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(notes(input, arms));
    table
}

/// The distribution of graphs over one attribute.
struct Size {
    name: &'static str,
    metric: &'static str,
    value: fn(&Dimensions) -> &Option<Bin>,
    /// All graphs of this value.
    is: fn(Bin) -> Dimensions,
}

const EDGES: Size = Size {
    name: "edges",
    metric: EDGES_SHARE,
    value: |about| &about.edges,
    is: |edges| WHOLE.edges(edges),
};
const DEPTH: Size = Size {
    name: "depth",
    metric: DEPTH_SHARE,
    value: |about| &about.depth,
    is: |depth| WHOLE.depth(depth),
};

/// Shares of graphs by number of edges or depth.
fn sizes(input: &ReportInput, arms: &[Arm], size: &Size) -> Table {
    let Size { name: attribute, metric, .. } = size;
    let mut columns = vec![Column::text(format!("{attribute} (calls)")), Column::share("real")];
    columns[0].align = super::table::Align::Right;
    columns.extend(arms.iter().map(|arm| Column::share(name(arm, arms))));
    let mut table = Table::new(format!("Graphs by {attribute}: {}", input.title), columns);
    for value in values_of(arms, metric, size.value) {
        let about = |side: &str| (size.is)(value).side(side);
        let real = real_value(arms, |arm| arm.estimate(metric, &about(REAL)));
        let mut row = vec![Cell::text(value.to_string()), table_cell(metric, real)];
        row.extend(arms.iter().map(|arm| arm.cell(metric, &about(SYNTHETIC))));
        table.push(row);
    }
    table.notes.push("Share of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(notes(input, arms));
    table
}

/// Divergence of the popular calls, a place on the axis for each arm.
fn divergence_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let shown: Vec<&Arm> = arms.iter().filter(|arm| arm.failure().is_none()).collect();
    let series = [("valid graphs", WHOLE.graphs("valid")), ("all answers", WHOLE.graphs("all"))];
    let series = series.iter().enumerate().map(|(index, (label, about))| {
        let floor = FLOORS.iter().filter(|_| input.floor.is_some()).map(|(_, other)| {
            let about = of_floor(about, *other);
            floor_value(input.floor, KL_TOP100_OTHER, &about).unwrap_or(Bounded::NONE)
        });
        let values =
            floor.chain(shown.iter().map(|arm| arm.bounded(KL_TOP100_OTHER, about))).collect();
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
    let (shown, few): (Vec<&Arm>, Vec<&Arm>) =
        arms.iter().filter(|arm| arm.failure().is_none()).partition(|arm| {
            arm.estimate(VALID, &WHOLE).is_none_or(|valid| valid.value >= LEAST_VALID)
        });
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
    let about: Vec<Dimensions> = ks.iter().map(|k| WHOLE.k(*k)).collect();
    let value = |value: Option<Bounded>| value.unwrap_or(Bounded::NONE);
    let mut series = Vec::new();
    if input.floor.is_some() {
        let floor = |about| value(floor_value(input.floor, HEAVY_HITTERS, about));
        series.push(BarSeries {
            label: FLOORS[0].0.to_owned(),
            style: Style::Real,
            values: about.iter().map(floor).collect(),
        });
    }
    series.extend(arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| BarSeries {
        label: name(arm, arms),
        style: arm.style,
        values: about.iter().map(|about| arm.bounded(HEAVY_HITTERS, about)).collect(),
    }));
    let panel = Panel {
        title: String::new(),
        x: Axis::names("K (microservices)", ks.iter().map(u32::to_string).collect()),
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
            size_panel(arms, &EDGES, "number of edges (calls)"),
            size_panel(arms, &DEPTH, "depth (calls)"),
        ],
        across: 2,
        width: PAGE,
        row_height: 240.0,
        notes,
    }
}

fn size_panel(arms: &[Arm], size: &Size, label: &str) -> Panel {
    let mut values = values_of(arms, size.metric, size.value);
    let at = |value: Bin, side: &str, arm: &Arm| {
        // A logarithmic axis has no place for 0.
        arm.estimate(size.metric, &(size.is)(value).side(side)).filter(|share| share.value > 0.0)
    };
    // Depths end where nobody has a graph any more.
    let sides = [REAL, SYNTHETIC];
    let used = |value: &Bin| {
        arms.iter().any(|arm| sides.iter().any(|side| at(*value, side, arm).is_some()))
    };
    values.truncate(values.iter().rposition(used).map_or(0, |last| last + 1));
    let points = |share: &dyn Fn(Bin) -> Bounded| {
        values.iter().enumerate().map(|(place, value)| (place as f64, share(*value))).collect()
    };
    let mut lines = vec![Line {
        label: "real".to_owned(),
        style: Style::Real,
        points: points(&|value| real_value(arms, |arm| at(value, REAL, arm))),
        markers: true,
    }];
    lines.extend(arms.iter().filter(|arm| arm.failure().is_none()).map(|arm| Line {
        label: name(arm, arms),
        style: arm.style,
        points: points(&|value| at(value, SYNTHETIC, arm).unwrap_or(Bounded::NONE)),
        markers: true,
    }));
    let shares: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|(_, share)| share.value)).collect();
    Panel {
        title: String::new(),
        x: Axis::names(label, values.iter().map(Bin::to_string).collect()),
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
