//! Uniqueness, novelty, memorisation and privacy.

use super::arms::{self, Arm, COST};
use super::fidelity::floor_value;
use super::figure::{Axis, Bars, Content, Figure, Level, Line, Lines, PAGE, Panel, Style};
use super::notes::figure_notes;
use super::overview::{self, Entry, Reference};
use super::table::Table;
use super::{ReportFiles, ReportInput, comparisons, published};
use crate::evaluate::WHOLE;
use crate::evaluate::fidelity::VALID;
use crate::evaluate::metric::Family;
use crate::evaluate::novelty::membership::{LOG_LIKELIHOOD, MEMBERSHIP, MEMBERSHIP_BY_SIZE};
use crate::evaluate::novelty::occurrence::{
    DISTINCT_PROMPTS, MEMORISED, NOVELTY, SIZES, UNIQUENESS, VALID_UNIQUE_NOVEL,
};
use crate::evaluate::novelty::privacy::{AUTHENTICITY, NEAREST, PROTECTION};

const REFERENCES: [Reference; 2] =
    [("real (test graphs)", Some("test")), ("real (half against half)", Some("half"))];

/// Levels of the canonical hash, as in records and in words.
const LEVELS: [(&str, &str); 4] = [
    ("structure", "structure"),
    ("names", "names"),
    ("binned-times", "binned times"),
    ("times", "exact times"),
];

/// What figure 15 may mean by edge attributes.
const ATTRIBUTES: [(&str, &str); 2] =
    [("names", "names and types"), ("times", "names, types and exact times")];

pub fn report(input: &ReportInput) -> ReportFiles {
    let arms = arms::arms(input.runs);
    let mut files = ReportFiles::default();
    files.table("novelty", novelty(input, &arms));
    files.table("memorisation", memorisation(input, &arms));
    files.table("privacy", privacy(input, &arms));
    files.table("published", published::compare(input, &arms, Family::Novelty));
    files.tables.extend(arms::effort_table(input, &arms).map(|table| ("effort".to_owned(), table)));
    files.table(COST, arms::cost_table(input, &arms));
    let temperatures = arms::temperatures(&arms);
    if temperatures.len() > 1 {
        files.figure("memorisation", by_temperature(input, &arms, &temperatures));
    } else {
        files.figure("novelty", novelty_figure(input, &arms));
        files.figure("privacy", privacy_figure(input, &arms));
    }
    comparisons::add(&mut files, input, &arms, &[("valid", VALID), ("novel, by names", NOVELTY)]);
    files
}

fn novelty(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut entries = vec![Entry::new("valid", VALID, WHOLE)];
    let levels = [
        ("novel", NOVELTY, &[0, 1, 2, 3][..]),
        ("unique", UNIQUENESS, &[0, 1, 3]),
        ("distinct prompts", DISTINCT_PROMPTS, &[0, 1, 3]),
        ("valid, unique, novel", VALID_UNIQUE_NOVEL, &[0, 1, 3]),
    ];
    for (heading, metric, places) in levels {
        entries.extend(places.iter().map(|place| {
            let (level, words) = LEVELS[*place];
            Entry::new(format!("{heading}: {words}"), metric, WHOLE.level(level))
        }));
    }
    let mut table = overview::table("Novelty", input, arms, &REFERENCES, &entries);
    table.notes.insert(
        0,
        "Novel: valid graphs that do not occur in training; unique: distinct ones among the valid; by what makes two graphs the same: the shape of the tree, + service, microservices and types, + times. Higher is not better: compare with real graphs, which repeat too. Unique by no more than the prompts' own variety comes with following them. Intervals of shares of distinct graphs: jackknife over services."
            .to_owned(),
    );
    table
}

fn memorisation(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut entries: Vec<Entry> = ATTRIBUTES
        .iter()
        .map(|(attributes, words)| {
            let about = WHOLE.attributes(*attributes);
            Entry::new(format!("in training: {words}"), MEMORISED, about)
        })
        .collect();
    entries.extend(SIZES.map(|size| {
        let words = if size.single() == Some(1) { "call" } else { "calls" };
        let about = WHOLE.attributes("names").edges(size);
        let size = size.to_string().replace('-', "–");
        Entry::new(format!("names, {size} {words}"), MEMORISED, about)
    }));
    let mut table = overview::table("Memorisation", input, arms, &REFERENCES, &entries);
    table.notes.insert(
        0,
        "Share of valid graphs whose structure and edge attributes (service, microservices, types; then also exact times) occur in the training set, over all and by number of calls. Small graphs have few forms and repeat by chance. A generator that is as good as the truth reaches the rate of test graphs; half against half is that rate for a training set of half of all graphs."
            .to_owned(),
    );
    table
}

fn privacy(input: &ReportInput, arms: &[Arm]) -> Table {
    let entries = [
        Entry::new("protection, all graphs", PROTECTION, WHOLE.sets("all")),
        Entry::new("protection, equal sets", PROTECTION, WHOLE.sets("equal")),
        Entry::new("authentic", AUTHENTICITY, WHOLE),
        Entry::new("distance to training", NEAREST, WHOLE.to("train")),
        Entry::new("distance to hold-out", NEAREST, WHOLE.to("holdout")),
        Entry::new("membership AUC, held out", MEMBERSHIP, WHOLE.against("held-out")),
        Entry::new("by size, held out", MEMBERSHIP_BY_SIZE, WHOLE.against("held-out")),
        Entry::new("membership AUC, test", MEMBERSHIP, WHOLE.against("test")),
        Entry::new("by size, test", MEMBERSHIP_BY_SIZE, WHOLE.against("test")),
        Entry::new("log-likelihood, member", LOG_LIKELIHOOD, WHOLE.graphs("member")),
        Entry::new("log-likelihood, held out", LOG_LIKELIHOOD, WHOLE.graphs("held-out")),
        Entry::new("log-likelihood, test", LOG_LIKELIHOOD, WHOLE.graphs("test")),
    ];
    let mut table = overview::table("Privacy", input, arms, &REFERENCES[..1], &entries);
    table.notes.insert(
        0,
        "Protection: 100 % if generated graphs are no nearer to training graphs than to test graphs, 0 if all of them are; equal sets as SDMetrics has it, which sees few copies where the test set is small. Authentic: farther from the nearest training graph than that one is from its own nearest. Distances: 0 the same calls at the same times, 1 no call in common; means over equal sets. Membership: area under the ROC curve of telling graphs that were trained on by their likelihood (0.5 by chance); by size: by the number of calls alone. n/a: the generator has no likelihood."
            .to_owned(),
    );
    table
}

/// Figure 15: a line for each generator that has a temperature, a level for everything else.
fn by_temperature(input: &ReportInput, arms: &[Arm], temperatures: &[f64]) -> Figure {
    let labels = arms::labels(arms);
    let panel = |(attributes, words): &(&str, &str)| {
        let about = WHOLE.attributes(*attributes);
        let mut lines = Lines::default();
        for (index, (label, reference)) in REFERENCES.iter().enumerate() {
            let of_reference = about.clone().referring(*reference);
            if let Some(value) = floor_value(input.floor, MEMORISED, &of_reference) {
                let style = if index == 0 { Style::Real } else { Style::Generator(labels.len()) };
                lines.levels.push(Level { label: (*label).to_owned(), style, value });
            }
        }
        for label in &labels {
            let of_label: Vec<&Arm> = arms.iter().filter(|arm| arm.label == *label).collect();
            let at = |arm: &&Arm| (arm.temperature, arm.bounded(MEMORISED, &about));
            let (label, style) = ((*label).to_owned(), of_label[0].style);
            match of_label[..] {
                [only] => lines.levels.push(Level { label, style, value: at(&only).1 }),
                _ => lines.lines.push(Line {
                    label,
                    style,
                    points: of_label.iter().map(at).collect(),
                    markers: true,
                }),
            }
        }
        let last = temperatures.last().copied().unwrap_or(1.0);
        Panel {
            title: (*words).to_owned(),
            x: Axis::linear("temperature", temperatures[0] - 0.03, last + 0.03),
            y: Axis::share("graphs that occur in training (%)"),
            content: Content::Lines(lines),
        }
    };
    let mut notes = vec![
        "Share of valid graphs that occur in the training set; dashed: what has no temperature, and how often real graphs repeat."
            .to_owned(),
    ];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("Memorisation by temperature: {}", input.title),
        panels: ATTRIBUTES.iter().map(panel).collect(),
        across: 2,
        width: PAGE,
        row_height: 250.0,
        notes,
    }
}

fn novelty_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let entries: Vec<Entry> = LEVELS
        .iter()
        .map(|(level, words)| Entry::new(*words, NOVELTY, WHOLE.level(*level)))
        .collect();
    let y = |_: &Bars| Axis::share("graphs that training lacks (%)");
    let panel = overview::panel("", y, input, arms, &REFERENCES, &entries);
    bars(
        input,
        arms,
        "Novelty",
        vec![panel],
        "Share of valid graphs that do not occur in training, by what makes two graphs the same; to be compared with real graphs.",
    )
}

fn privacy_figure(input: &ReportInput, arms: &[Arm]) -> Figure {
    let shares = [
        Entry::new("protection against overfitting", PROTECTION, WHOLE.sets("all")),
        Entry::new("authentic", AUTHENTICITY, WHOLE),
    ];
    let y = |_: &Bars| Axis::share("share (%)");
    let panels = vec![overview::panel("", y, input, arms, &REFERENCES[..1], &shares)];
    let note = "Protection: generated graphs are no nearer to training graphs than to test graphs. Authentic: farther from the nearest training graph than that one is from its own nearest. Higher is more private; noise is perfectly private.";
    bars(input, arms, "Privacy", panels, note)
}

fn bars(input: &ReportInput, arms: &[Arm], what: &str, panels: Vec<Panel>, note: &str) -> Figure {
    let mut notes = vec![note.to_owned()];
    notes.extend(figure_notes(input, arms));
    Figure {
        title: format!("{what}: {}", input.title),
        panels,
        across: 1,
        width: PAGE,
        row_height: 300.0,
        notes,
    }
}
