//! Popular calls, heavy hitters and sizes against real graphs.

use super::heavy_hitters::HEAVY_HITTERS;
use super::popular_calls::{
    KL_TOP100, KL_TOP100_OTHER, POPULAR_CALL, PopularCall, REAL, SYNTHETIC,
};
use super::shape::{DEPTH_SHARE, DEPTH_TV, EDGES_SHARE, EDGES_TV, LATENCY_KS};
use crate::display;
use crate::evaluate::answers::{ACCURACY, VALID};
use crate::evaluate::{Bin, Dimensions, Metric, WHOLE};
use crate::graph::Communication;
use crate::report::figure::{
    Axis, BarSeries, Bars, Bounded, COLUMN, Content, Figure, Line, Lines, PAGE, Panel, Style,
};
use crate::report::table::{Align, Cell, Column, Table};
use crate::report::{Columns, Entry, Found, Reference, ReportFiles, Results, list, table_cell};

/// Two halves of all real graphs, of which each is as good as valid or all answers; and all training graphs
/// against the test graphs.
pub const REFERENCES: [Reference; 2] =
    [("split-half (real vs. real)", |about| about), ("train vs. test", |_| WHOLE.graphs("train"))];

/// Columns of the overview.
fn overview() -> [Entry; 9] {
    let (valid, all) = (WHOLE.graphs("valid"), WHOLE.graphs("all"));
    [
        Entry::new("valid", VALID, WHOLE),
        Entry::new(ACCURACY.title, ACCURACY, WHOLE),
        Entry::new("KL top 100: valid", KL_TOP100, valid.clone()),
        Entry::new("KL top 100: all", KL_TOP100, all.clone()),
        Entry::new("KL top 100 + other: valid", KL_TOP100_OTHER, valid),
        Entry::new("KL top 100 + other: all", KL_TOP100_OTHER, all),
        Entry::new("TV edges", EDGES_TV, WHOLE),
        Entry::new("TV depth", DEPTH_TV, WHOLE),
        Entry::new("KS latency", LATENCY_KS, WHOLE),
    ]
}

/// Distances of valid graphs and the overlap of heavy hitters.
pub fn columns() -> Columns {
    let mut entries = Vec::from(overview());
    entries.retain(|entry| entry.metric.of_samples && entry.about.graphs.as_deref() != Some("all"));
    entries.extend(
        [10u32, 50]
            .map(|k| Entry::new(format!("heavy hitters: K = {k}"), HEAVY_HITTERS, WHOLE.k(k))),
    );
    Columns::new(entries, &REFERENCES)
}

pub fn report(results: &Results) -> ReportFiles {
    let mut files = ReportFiles::default();
    let mut table = results.table("Fidelity", &REFERENCES, &overview());
    table.notes.insert(
        0,
        "KL: divergence of the real from the synthetic distribution of the 100 most popular real calls, smoothed by half a call each; it does not see calls outside the 100, which `+ other` puts into one bucket. TV: total variation distance, KS: Kolmogorov-Smirnov distance, of valid graphs. For all of them lower is better, and the rows of real graphs show what two samples of the truth reach."
            .into(),
    );
    files.table("fidelity", table);
    files.table("heavy-hitters", heavy_hitters(results));
    files.table("popular-calls", popular_calls(results));
    files.table("edges", sizes(results, &EDGES));
    files.table("depth", sizes(results, &DEPTH));
    files.figure("divergence", divergence_figure(results));
    if let Some(plotted) = results.plotted() {
        files.figure("popular-calls", popular_calls_figure(&plotted));
        files.figure("heavy-hitters", heavy_hitters_figure(&plotted));
        files.figure("sizes", sizes_figure(&plotted));
    }
    files
}

/// An entry for each number K of microservices.
fn heavy_hitter_entries(results: &Results, heading: fn(u32) -> String) -> Vec<Entry> {
    let entry = |k: u32| Entry::new(heading(k), HEAVY_HITTERS, WHOLE.k(k));
    results.values(HEAVY_HITTERS, |about| about.k).into_iter().map(entry).collect()
}

fn heavy_hitters(results: &Results) -> Table {
    let entries = heavy_hitter_entries(results, |k| format!("K = {k}"));
    let title = "Overlap of the K most called microservices";
    let mut table = results.headed(title, [Column::text("generator")], &entries);
    results.add_rows(&mut table, &REFERENCES[..1], &entries, |label, _| vec![Cell::text(label)]);
    table.notes.push(
        "n/a: the real graphs have no more than K microservices, so that all of them would count."
            .into(),
    );
    table.notes.extend(results.notes());
    table
}

/// Numbers of real and synthetic graphs for each of `about`. What is real is the same for all variants.
struct Sides {
    real: Vec<Bounded>,
    synthetic: Found,
}

impl Sides {
    fn new(
        results: &Results,
        metric: &'static Metric,
        about: &[impl Fn(&str) -> Dimensions],
    ) -> Self {
        let of = |side: &str| {
            let entries = about.iter().map(|about| Entry::new("", metric, about(side)));
            results.find(&entries.collect::<Vec<_>>())
        };
        let real = of(REAL);
        let real = (0..about.len()).map(|entry| {
            let mut variants = results.variants.iter();
            variants.find_map(|variant| real.estimate(variant, entry)).unwrap_or(Bounded::NONE)
        });
        Self { real: real.collect(), synthetic: of(SYNTHETIC) }
    }
}

/// The popular calls in order of rank.
fn calls(results: &Results) -> Vec<PopularCall> {
    results.values(POPULAR_CALL, |about| {
        let real = about.side.as_deref() == Some(REAL);
        Some(PopularCall { rank: about.rank.filter(|_| real)?, call: about.call? })
    })
}

fn call_sides(results: &Results, calls: &[PopularCall]) -> Sides {
    let about: Vec<_> = calls.iter().map(|call| move |side: &str| call.dimensions(side)).collect();
    Sides::new(results, POPULAR_CALL, &about)
}

fn popular_calls(results: &Results) -> Table {
    let mut columns = vec![
        Column::number("rank", ""),
        Column::text("source"),
        Column::text("destination"),
        Column::text("type"),
        Column::share("real"),
    ];
    columns.extend(results.variants.iter().map(|variant| Column::share(results.name(variant))));
    let mut table = Table::new(results.titled("Most popular real calls"), columns);
    let calls = calls(results);
    let sides = call_sides(results, &calls);
    for (entry, popular) in calls.iter().enumerate() {
        let Communication { source, destination, kind } = &popular.call;
        let mut row = vec![
            Cell::Integer(popular.rank.into()),
            Cell::text(source.as_str()),
            Cell::text(destination.as_str()),
            Cell::text(kind.as_str()),
            table_cell(POPULAR_CALL, sides.real[entry]),
        ];
        let variants = results.variants.iter();
        row.extend(variants.map(|variant| sides.synthetic.cell(variant, entry)));
        table.push(row);
    }
    table
        .notes
        .push("Fraction of all calls of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(results.notes());
    table
}

/// The distribution of graphs over one attribute.
struct Size {
    name: &'static str,
    axis: &'static str,
    metric: &'static Metric,
    of: fn(Dimensions) -> Option<Bin>,
    /// All graphs of this value.
    is: fn(Bin) -> Dimensions,
}

const EDGES: Size = Size {
    name: "edges",
    axis: "number of edges (calls)",
    metric: EDGES_SHARE,
    of: |about| about.edges,
    is: |edges| WHOLE.edges(edges),
};
const DEPTH: Size = Size {
    name: "depth",
    axis: "depth (calls)",
    metric: DEPTH_SHARE,
    of: |about| about.depth,
    is: |depth| WHOLE.depth(depth),
};

impl Size {
    fn values(&self, results: &Results) -> Vec<Bin> {
        results.values(self.metric, self.of)
    }

    fn sides(&self, results: &Results, values: &[Bin]) -> Sides {
        let about: Vec<_> =
            values.iter().map(|value| move |side: &str| (self.is)(*value).side(side)).collect();
        Sides::new(results, self.metric, &about)
    }
}

/// Fractions of graphs by number of edges or depth.
fn sizes(results: &Results, size: &Size) -> Table {
    let mut columns = vec![Column::text(format!("{} (calls)", size.name)), Column::share("real")];
    columns[0].align = Align::Right;
    columns.extend(results.variants.iter().map(|variant| Column::share(results.name(variant))));
    let mut table = Table::new(results.titled(&format!("Graphs by {}", size.name)), columns);
    let values = size.values(results);
    let sides = size.sides(results, &values);
    for (entry, value) in values.iter().enumerate() {
        let real = table_cell(size.metric, sides.real[entry]);
        let mut row = vec![Cell::text(value.to_string()), real];
        let variants = results.variants.iter();
        row.extend(variants.map(|variant| sides.synthetic.cell(variant, entry)));
        table.push(row);
    }
    table.notes.push("Fraction of the test graphs or of the valid synthetic graphs.".into());
    table.notes.extend(results.notes());
    table
}

/// Divergence of the popular calls, a place on the axis for each variant.
fn divergence_figure(results: &Results) -> Figure {
    let entries = [("valid graphs", "valid"), ("all answers", "all")]
        .map(|(heading, graphs)| Entry::new(heading, KL_TOP100_OTHER, WHOLE.graphs(graphs)));
    let axis = |bars: &Bars| Axis::from_zero("KL divergence (nats)", bars.values());
    let panel = results.panel("", axis, &REFERENCES, &entries);
    let note = "Divergence of the real from the synthetic distribution of the 100 most popular real calls and one bucket for all others; lower is better, and the rows of real graphs show what two samples of the truth reach.";
    results.figure("Divergence of calls", vec![panel], PAGE, 300.0, note)
}

/// Characters of a name in a figure.
const LONGEST: usize = 26;
/// Fraction of valid answers from which a variant is drawn among the popular calls.
const LEAST_VALID: f64 = 0.01;

fn popular_calls_figure(results: &Results) -> Figure {
    // A handful of graphs may be all of one call, beside which no other fraction could be read.
    let valid = results.find(&[Entry::new("", VALID, WHOLE)]);
    let few = |valid: Option<Bounded>| valid.is_some_and(|valid| valid.value < LEAST_VALID);
    let shown = results.only(|variant| !few(valid.estimate(variant, 0)));
    let calls = calls(results);
    let real = BarSeries {
        label: "real".into(),
        style: Style::Real,
        values: call_sides(results, &calls).real,
    };
    let entries = calls.iter().map(|popular| {
        let Communication { source, destination, kind } = &popular.call;
        let name = format!("{} → {} {kind}", cut(source), cut(destination));
        Entry::new(name, POPULAR_CALL, popular.dimensions(SYNTHETIC))
    });
    let axis = |bars: &Bars| Axis::from_zero("fraction of all calls (%)", bars.values()).percent();
    let x = "call (source → destination, type)";
    let panel = shown.panel_by_entry(x, axis, &entries.collect::<Vec<_>>(), None, Some(real));
    let mut figure = results.figure("The most popular real calls", vec![panel], PAGE, 330.0, "");
    let few = results.variants.iter().filter(|variant| few(valid.estimate(variant, 0)));
    let few: Vec<String> = few.map(|variant| results.name(variant)).collect();
    if !few.is_empty() {
        figure.notes.push(format!("Not drawn, as hardly an answer is valid: {}.", list(&few)));
    }
    figure
}

/// The end of a name that is too long for an axis, which says most; tables have all of it.
fn cut(name: &str) -> String {
    let name = display::name(name);
    let length = name.chars().count();
    if length <= LONGEST {
        return name.into_owned();
    }
    format!("…{}", name.chars().skip(length - LONGEST + 1).collect::<String>())
}

fn heavy_hitters_figure(results: &Results) -> Figure {
    let entries = heavy_hitter_entries(results, |k| k.to_string());
    let real = results.references(&REFERENCES[..1], &entries).pop().map(|(label, values)| {
        let values = values.into_iter().map(|value| value.unwrap_or(Bounded::NONE)).collect();
        BarSeries { label: label.to_owned(), style: Style::Real, values }
    });
    let axis = |_: &Bars| Axis::share("overlap of the top K (%)");
    let panel = results.panel_by_entry("K (microservices)", axis, &entries, real, None);
    let note = "No bar: K or fewer microservices in the real graphs.";
    let title = "Overlap of the most called microservices";
    results.figure(title, vec![panel], COLUMN, 240.0, note)
}

fn sizes_figure(results: &Results) -> Figure {
    let note = "Real: test graphs; generators: valid graphs. Fractions of 0 are not drawn.";
    let panels = vec![size_panel(results, &EDGES), size_panel(results, &DEPTH)];
    let title = "Graphs by number of edges and depth";
    Figure { across: 2, ..results.figure(title, panels, PAGE, 240.0, note) }
}

fn size_panel(results: &Results, size: &Size) -> Panel {
    let mut values = size.values(results);
    let sides = size.sides(results, &values);
    // A logarithmic axis has no place for 0.
    let above_0 = |share: Bounded| if share.value > 0.0 { share } else { Bounded::NONE };
    let real: Vec<Bounded> = sides.real.into_iter().map(above_0).collect();
    let succeeded = results.succeeded();
    let of_variants: Vec<Vec<Bounded>> = succeeded
        .variants
        .iter()
        .map(|variant| {
            (0..values.len())
                .map(|entry| above_0(sides.synthetic.bounded(variant, entry)))
                .collect()
        })
        .collect();
    // Depths end where nobody has a graph any more.
    let used = |entry: usize| {
        let mut shares = of_variants.iter().chain([&real]);
        shares.any(|shares| !shares[entry].value.is_nan())
    };
    values.truncate((0..values.len()).rfind(|entry| used(*entry)).map_or(0, |last| last + 1));
    let points = |shares: &[Bounded]| {
        shares
            .iter()
            .take(values.len())
            .enumerate()
            .map(|(at, share)| (at as f64, *share))
            .collect()
    };
    let mut lines = vec![Line {
        label: "real".to_owned(),
        style: Style::Real,
        points: points(&real),
        markers: true,
    }];
    lines.extend(succeeded.variants.iter().zip(&of_variants).map(|(variant, shares)| Line {
        label: results.name(variant),
        style: variant.style,
        points: points(shares),
        markers: true,
    }));
    let shares: Vec<f64> =
        lines.iter().flat_map(|line| line.points.iter().map(|(_, share)| share.value)).collect();
    Panel {
        title: String::new(),
        x: Axis::names(size.axis, values.iter().map(Bin::to_string).collect()),
        y: Axis::log("fraction of graphs (%)", shares).percent(),
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
