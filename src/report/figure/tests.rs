//! One figure of each kind, as they are used. `TRACEGYM_FIGURES=DIR cargo test figure::` keeps them
//! to be looked at.

use super::*;
use crate::display;
use crate::testing::HOSTILE_NAMES;

fn bounded(value: f64, half: f64) -> Bounded {
    Bounded { value, low: (value - half).max(0.0), high: value + half }
}

fn share(value: f64) -> Bounded {
    let Bounded { value, low, high } = bounded(value.clamp(0.0, 1.0), 0.07);
    Bounded { value, low, high: high.min(1.0) }
}

fn notes() -> Vec<String> {
    vec![
        "Intervals: 95 %. 1 seed, 6,800 prompts per generator. A dot marks cells without any training graph.".into(),
        "Dataset `alibaba-v2022-structures`: response times are drawn by call type and depth from `alibaba-v2022-graphs`, not measured.".into(),
    ]
}

/// SVG and PNG exist, say the texts and are as large as they should be.
fn check(name: &str, figure: &Figure, texts: &[&str]) {
    let (svg, png) = (figure.to_svg().unwrap(), figure.to_png().unwrap());
    if let Some(dir) = std::env::var_os("TRACEGYM_FIGURES") {
        let dir = std::path::Path::new(&dir);
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(format!("{name}.svg")), &svg).unwrap();
        std::fs::write(dir.join(format!("{name}.png")), &png).unwrap();
    }
    let image = image::load_from_memory(&png).unwrap().to_rgb8();
    assert_eq!(image.width(), figure.width as u32 * 2);
    assert!(image.pixels().any(|pixel| pixel.0 != [255; 3]), "{name} is blank");
    // Nothing is cut off at the edges.
    let (right, bottom) = (image.width() - 1, image.height() - 1);
    let edges = (0..=right).flat_map(|x| [(x, 0), (x, bottom)]);
    for (x, y) in edges.chain((0..=bottom).flat_map(|y| [(0, y), (right, y)])) {
        assert_eq!(image.get_pixel(x, y).0, [255; 3], "{name} touches its edge at {x}, {y}");
    }
    for text in texts {
        assert!(svg.contains(text), "{name}: no `{text}`");
    }
}

fn heat_panel(title: &str, slope: f64) -> Panel {
    let mut map = HeatMap { columns: 30, rows: 6, ..HeatMap::default() };
    for edges in 1..=30usize {
        for depth in 1..=6usize.min(edges) {
            if (depth == 1) == (edges == 1) {
                let cell = (edges - 1, depth - 1);
                let share = 1.0 - slope * (edges + 3 * depth) as f64 / 48.0;
                map.cells.insert(cell, share.clamp(0.0, 1.0));
                if edges * depth > 60 {
                    map.dotted.insert(cell);
                }
            }
        }
    }
    let names = |count: usize| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
    Panel {
        title: title.into(),
        x: Axis::names("number of edges (calls)", names(30)),
        y: Axis::names("depth (calls)", names(6)),
        content: Content::HeatMap(map),
    }
}

#[test]
fn heat_maps() {
    let figure = Figure {
        title: "Accuracy by number of edges and depth".into(),
        panels: vec![heat_panel("recursive-llm", 0.4), heat_panel("probabilistic", 1.6)],
        across: 1,
        width: PAGE,
        row_height: 160.0,
        notes: notes(),
    };
    check("heat-map", &figure, &["number of edges (calls)", "recursive-llm", "100 %", "measured"]);
}

fn falling(label: &str, index: usize, slope: f64) -> Line {
    let points = (1..=30).map(|x| (f64::from(x), share(1.0 - slope * f64::from(x))));
    Line {
        label: label.into(),
        style: Style::Generator(index),
        points: points.collect(),
        markers: true,
    }
}

#[test]
fn lines_with_bands() {
    let mut broken = falling("probabilistic", 1, 0.06);
    broken.points[7].1 = Bounded::NONE;
    broken.points.truncate(20);
    let lines = vec![falling("recursive-llm", 0, 0.01), broken, falling("resample", 2, 0.03)];
    let depth = lines.iter().map(|line| Line { points: line.points[..6].to_vec(), ..line.clone() });
    let depth = Lines { lines: depth.collect(), levels: Vec::new() };
    let figure = Figure {
        title: "Accuracy by number of edges, by depth".into(),
        panels: vec![
            Panel {
                title: String::new(),
                x: Axis::linear("number of edges (calls)", 0.5, 30.5).whole(),
                y: Axis::share("accuracy (%)"),
                content: Content::Lines(Lines { lines, levels: Vec::new() }),
            },
            Panel {
                title: String::new(),
                x: Axis::linear("depth (calls)", 0.8, 6.2).whole(),
                y: Axis::share("accuracy (%)"),
                content: Content::Lines(depth),
            },
        ],
        across: 2,
        width: PAGE,
        row_height: 230.0,
        notes: notes(),
    };
    check("lines", &figure, &["accuracy (%)", "probabilistic", "depth (calls)"]);
}

#[test]
fn learning_curves() {
    let tokens = [3e4, 1e5, 3e5, 1e6, 3e6];
    let curve = |label: &str, values: [f64; 5]| Line {
        label: label.into(),
        style: Style::Generator(0),
        points: tokens.iter().zip(values).map(|(x, y)| (*x, bounded(y, y * 0.2))).collect(),
        markers: true,
    };
    let level = |label: &str, style, value| Level {
        label: label.into(),
        style,
        value: bounded(value, value * 0.15),
    };
    let kl = Lines {
        lines: vec![curve("recursive-llm", [4.0, 2.0, 0.9, 0.3, 0.2])],
        levels: vec![
            level("probabilistic", Style::Generator(1), 1.4),
            level("split-half (real vs. real)", Style::Real, 0.05),
        ],
    };
    let accuracy = Lines {
        lines: vec![curve("recursive-llm", [0.0, 0.2, 0.5, 0.7, 0.8])],
        levels: Vec::new(),
    };
    let figure = Figure {
        title: "Learning".into(),
        panels: vec![
            Panel {
                title: "Accuracy".into(),
                x: Axis::log("training tokens", tokens),
                y: Axis::share("accuracy (%)"),
                content: Content::Lines(accuracy),
            },
            Panel {
                title: "Popular calls".into(),
                x: Axis::log("training tokens", tokens),
                y: Axis::log("KL divergence (nats)", kl.values()),
                content: Content::Lines(kl),
            },
        ],
        across: 2,
        width: PAGE,
        row_height: 230.0,
        notes: Vec::new(),
    };
    check("learning", &figure, &["training tokens", "split-half", "100k"]);
}

#[test]
fn bars() {
    let calls: Vec<String> =
        (0..30).map(|n| format!("MS_{:05}→MS_{:05} rpc", n * 37, n * 91)).collect();
    let values = |factor: f64| -> Vec<Bounded> {
        (0..30).map(|n| bounded(factor * 0.08 / f64::from(n + 1), 0.006)).collect()
    };
    let series = |label: &str, style, factor| BarSeries {
        label: label.into(),
        style,
        values: values(factor),
    };
    let popular = Bars {
        backdrop: Some(series("real", Style::Real, 1.0)),
        series: vec![
            series("recursive-llm", Style::Generator(0), 1.2),
            series("probabilistic", Style::Generator(1), 0.4),
            series("resample", Style::Generator(2), 0.95),
        ],
    };
    let figure = Figure {
        title: "Popular calls".into(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::names("call (source → destination, type)", calls),
            y: Axis::from_zero("share of calls (%)", popular.values()).percent(),
            content: Content::Bars(popular),
        }],
        across: 1,
        width: PAGE,
        row_height: 330.0,
        notes: notes(),
    };
    check("popular-calls", &figure, &["MS_00037→MS_00091 rpc", "real", "share of calls (%)"]);

    let ks = ["10", "20", "50", "100", "200", "500"].map(String::from).to_vec();
    let cut = |series: BarSeries| BarSeries {
        values: (0..6).map(|n| share(series.values[n].value * 8.0 + 0.2)).collect(),
        ..series
    };
    let hitters = Bars {
        backdrop: None,
        series: vec![
            cut(series("split-half (real vs. real)", Style::Real, 1.3)),
            cut(series("recursive-llm", Style::Generator(0), 1.2)),
            cut(series("probabilistic", Style::Generator(1), 0.4)),
        ],
    };
    let figure = Figure {
        title: "Heavy hitters".into(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::names("K (microservices)", ks),
            y: Axis::share("overlap of the top K (%)"),
            content: Content::Bars(hitters),
        }],
        across: 1,
        width: COLUMN,
        row_height: 240.0,
        notes: notes(),
    };
    check("heavy-hitters", &figure, &["K (microservices)", "500"]);
}

#[test]
fn nothing_to_show_is_no_panic() {
    let empty = |content| Panel {
        title: "Empty".into(),
        x: Axis::names("x", Vec::new()),
        y: Axis::log("y", []),
        content,
    };
    let level = Level { label: "none".into(), style: Style::Real, value: Bounded::NONE };
    let panels = vec![
        empty(Content::HeatMap(HeatMap::default())),
        empty(Content::Lines(Lines { lines: Vec::new(), levels: vec![level] })),
        empty(Content::Bars(Bars { backdrop: None, series: Vec::new() })),
    ];
    let figure = Figure {
        title: "Empty".into(),
        panels,
        across: 3,
        width: PAGE,
        row_height: 150.0,
        notes: Vec::new(),
    };
    check("empty", &figure, &["Empty"]);
}

#[test]
fn long_names_leave_room_for_what_they_name() {
    let name = "a generator with quite some settings behind its name > another one";
    let names = vec![name.to_owned(), name.repeat(2)];
    let values = vec![share(0.2), share(0.9)];
    let series = vec![BarSeries { label: "bars".into(), style: Style::Real, values }];
    let panel = Panel {
        title: "Long names".into(),
        x: Axis::names("", names),
        y: Axis::share("share (%)"),
        content: Content::Bars(Bars { backdrop: None, series }),
    };
    let figure = Figure {
        title: "Long names".into(),
        panels: vec![panel],
        across: 1,
        width: COLUMN,
        row_height: 150.0,
        notes: Vec::new(),
    };
    check("long-names", &figure, &["Long names"]);

    let long = "Recursive LLM (remaining counts; tokens 8_000_000; self-trained), T = 0.8";
    let mut few = Figure { width: PAGE, ..figure };
    few.panels[0].x =
        Axis::names("", (0..8).map(|n| [long, "Training-set copy"][n % 2].to_owned()).collect());
    let values = vec![share(0.5); 8];
    let series = vec![BarSeries { label: "bars".into(), style: Style::Real, values }];
    few.panels[0].content = Content::Bars(Bars { backdrop: None, series });
    check("long-names-in-lines", &few, &["Training-set copy", "tokens"]);
    // In lines side by side, where there is room for them.
    assert!(!few.to_svg().unwrap().contains(long));
}

/// Asserts that a document is well-formed XML 1.0, as far as plotters' elements go: characters, tags
/// with attributes, references.
fn assert_well_formed(svg: &str) {
    let is_char = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(svg.chars().all(is_char));
    let references = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"];
    for (at, _) in svg.match_indices('&') {
        assert!(references.iter().any(|known| svg[at..].starts_with(known)), "{}", &svg[at..]);
    }
    let mut open: Vec<&str> = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("the end of a tag");
        assert!(!text.contains("]]>") && tag.matches('"').count() % 2 == 0, "{piece}");
        let name = tag.split_whitespace().next().expect("a name").trim_end_matches('/');
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if !tag.ends_with('/') => open.push(name),
            None => {}
        }
    }
    assert!(open.is_empty());
}

#[test]
fn hostile_names_are_drawn() {
    let long = "long".repeat(2_500);
    let names: Vec<String> =
        HOSTILE_NAMES.iter().copied().chain([long.as_str()]).map(str::to_owned).collect();
    let all = HOSTILE_NAMES.concat();
    let values = vec![share(0.5); names.len()];
    let series = |label: String| BarSeries { label, style: Style::Real, values: values.clone() };
    let mut longer = long.clone();
    longer.insert(5_000, 'x');
    let bars = |names: Vec<String>, labels: Vec<String>| Panel {
        title: all.clone(),
        x: Axis::names(&all, names),
        y: Axis::names(&long, vec![all.clone()]),
        content: Content::Bars(Bars {
            backdrop: None,
            series: labels.into_iter().map(series).collect(),
        }),
    };
    let figure = Figure {
        title: format!("{all}{long}"),
        panels: vec![bars(names.clone(), names.clone()), bars(names, vec![longer])],
        across: 1,
        width: PAGE,
        row_height: 300.0,
        notes: vec![all.clone(), long.clone()],
    };
    let svg = figure.to_svg().unwrap();
    assert_well_formed(&svg);
    assert!(svg.chars().all(|c| c == '\n' || display::prints(c)));
    assert!(svg.contains("\\u{202e}") && svg.contains("&lt;script&gt;") && !svg.contains(&long));
    // Names that differ in their middle alone are two generators.
    assert_eq!(figure.keys().len(), HOSTILE_NAMES.len() + 2);
    let image = image::load_from_memory(&figure.to_png().unwrap()).unwrap();
    assert!(image.width() == 1_440 && image.height() < 8_000, "{}", image.height());
}
