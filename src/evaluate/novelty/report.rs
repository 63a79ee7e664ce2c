//! Uniqueness, novelty, memorisation and privacy: tables and figure 15.

use super::membership::{LOG_LIKELIHOOD, MEMBERSHIP, MEMBERSHIP_BY_SIZE};
use super::occurrence::{
    DISTINCT_PROMPTS, MEMORISED, NOVELTY, SIZES, UNIQUENESS, VALID_UNIQUE_NOVEL,
};
use super::privacy::{AUTHENTICITY, NEAREST, PROTECTION};
use super::{HALF, TEST};
use crate::evaluate::WHOLE;
use crate::evaluate::answers::VALID;
use crate::report::figure::{
    Axis, Bars, Bounded, Content, Figure, Level, Line, Lines, PAGE, Panel, Style,
};
use crate::report::table::Table;
use crate::report::{Entry, Reference, ReportFiles, Results, Variant};

const REFERENCES: [Reference; 2] = [
    ("real (test graphs)", |about| about.reference(TEST)),
    ("split-half (real vs. real)", |about| about.reference(HALF)),
];

/// Levels of the canonical hash, as in records and in words.
const LEVELS: [(&str, &str); 4] = [
    ("structure", "structure"),
    ("names", "names"),
    ("binned-times", "binned times"),
    ("times", "exact times"),
];

/// What figure 15 may mean by edge attributes.
const ATTRIBUTES: [(&str, &str); 2] =
    [("names", "names and types"), ("times", "names with types and exact times")];

pub fn report(results: &Results) -> ReportFiles {
    let mut files = ReportFiles::default();
    files.table("novelty", novelty(results));
    files.table("memorisation", memorisation(results));
    files.table("privacy", privacy(results));
    let temperatures = results.temperatures();
    if temperatures.len() > 1 {
        files.figure("memorisation", by_temperature(results, &temperatures));
    } else {
        files.figure("novelty", novelty_figure(results));
        files.figure("privacy", privacy_figure(results));
    }
    files
}

fn novelty(results: &Results) -> Table {
    let mut entries = vec![Entry::new("valid", VALID, WHOLE)];
    let levels = [
        ("novel", NOVELTY, &[0, 1, 2, 3][..]),
        ("unique", UNIQUENESS, &[0, 1, 3]),
        ("distinct prompts", DISTINCT_PROMPTS, &[0, 1, 3]),
        ("valid and unique and novel", VALID_UNIQUE_NOVEL, &[0, 1, 3]),
    ];
    for (heading, metric, places) in levels {
        entries.extend(places.iter().map(|place| {
            let (level, words) = LEVELS[*place];
            Entry::new(format!("{heading}: {words}"), metric, WHOLE.level(level))
        }));
    }
    let mut table = results.table("Novelty", &REFERENCES, &entries);
    table.notes.insert(
        0,
        "Novel: valid graphs that do not occur in training; unique: distinct ones among the valid; by what makes two graphs the same: the shape of the tree, + service, microservices and types, + times. Higher is not better: compare with real graphs, which repeat too. Unique by no more than the prompts' own variety comes with following them. Intervals of fractions of distinct graphs: jackknife over services."
            .to_owned(),
    );
    table
}

fn memorisation(results: &Results) -> Table {
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
        Entry::new(format!("in training: names of {size} {words}"), MEMORISED, about)
    }));
    let mut table = results.table("Memorisation", &REFERENCES, &entries);
    table.notes.insert(
        0,
        "Fraction of valid graphs whose structure and edge attributes (service, microservices, types; then also exact times) occur in the training set, over all and by number of calls. Small graphs have few forms and repeat by chance. A generator that is as good as the truth reaches the rate of test graphs; split-half is that rate for a training set of half of all graphs."
            .to_owned(),
    );
    table
}

fn privacy(results: &Results) -> Table {
    let entries = [
        Entry::new("protection", PROTECTION, WHOLE.sets("all")),
        Entry::new("authentic", AUTHENTICITY, WHOLE),
        Entry::new("distance to training", NEAREST, WHOLE.to("train")),
        Entry::new("distance to hold-out", NEAREST, WHOLE.to("holdout")),
        Entry::new("membership AUC vs. held out", MEMBERSHIP, WHOLE.against("held-out")),
        Entry::new("AUC by size vs. held out", MEMBERSHIP_BY_SIZE, WHOLE.against("held-out")),
        Entry::new("membership AUC vs. test", MEMBERSHIP, WHOLE.against("test")),
        Entry::new("AUC by size vs. test", MEMBERSHIP_BY_SIZE, WHOLE.against("test")),
        Entry::new("log-likelihood: member", LOG_LIKELIHOOD, WHOLE.graphs("member")),
        Entry::new("log-likelihood: held out", LOG_LIKELIHOOD, WHOLE.graphs("held-out")),
        Entry::new("log-likelihood: test", LOG_LIKELIHOOD, WHOLE.graphs("test")),
    ];
    let mut table = results.table("Privacy", &REFERENCES[..1], &entries);
    table.notes.insert(
        0,
        "Protection: 100 % if generated graphs are no nearer to training graphs than to test graphs, 0 if all of them are, above 100 % if they are farther. Authentic: farther from the nearest training graph than that one is from its own nearest. Distances: 0 the same calls at the same times, 1 no call in common; means over equal sets. Membership: area under the ROC curve of distinguishing graphs that were trained on by their likelihood (0.5 by chance); by size: by the number of calls alone. n/a: the generator has no likelihood."
            .to_owned(),
    );
    table
}

/// Figure 15: a line for each generator that has a temperature, a level for everything else.
fn by_temperature(results: &Results, temperatures: &[f64]) -> Figure {
    let entries = ATTRIBUTES
        .map(|(attributes, words)| Entry::new(words, MEMORISED, WHOLE.attributes(attributes)));
    let (labels, found) = (results.labels(), results.find(&entries));
    let references = results.references(&REFERENCES, &entries);
    let panels = entries.iter().enumerate().map(|(entry, Entry { heading, .. })| {
        let mut lines = Lines::default();
        for (place, (label, values)) in references.iter().enumerate() {
            let style = if place == 0 { Style::Real } else { Style::Generator(labels.len()) };
            let value = values[entry].unwrap_or(Bounded::NONE);
            lines.levels.push(Level { label: (*label).to_owned(), style, value });
        }
        for label in &labels {
            let variants = results.variants.iter().filter(|variant| variant.label == *label);
            let at = |variant: &Variant| (variant.temperature, found.bounded(variant, entry));
            let points: Vec<(f64, Bounded)> = variants.clone().map(at).collect();
            let Some(style) = variants.map(|variant| variant.style).next() else { continue };
            let label = (*label).to_owned();
            match points[..] {
                [(_, value)] => lines.levels.push(Level { label, style, value }),
                _ => lines.lines.push(Line { label, style, points, markers: true }),
            }
        }
        let last = temperatures.last().copied().unwrap_or(1.0);
        Panel {
            title: heading.clone(),
            x: Axis::linear("temperature", temperatures[0] - 0.03, last + 0.03),
            y: Axis::share("graphs that occur in training (%)"),
            content: Content::Lines(lines),
        }
    });
    let note = "Fraction of valid graphs that occur in the training set; dashed: what has no temperature, and how often real graphs repeat.";
    let title = "Memorisation by temperature";
    Figure { across: 2, ..results.figure(title, panels.collect(), PAGE, 250.0, note) }
}

fn novelty_figure(results: &Results) -> Figure {
    let entries = LEVELS.map(|(level, words)| Entry::new(words, NOVELTY, WHOLE.level(level)));
    let y = |_: &Bars| Axis::share("graphs that training lacks (%)");
    let panel = results.panel("", y, &REFERENCES, &entries);
    let note = "Fraction of valid graphs that do not occur in training, by what makes two graphs the same; to be compared with real graphs.";
    results.figure("Novelty", vec![panel], PAGE, 300.0, note)
}

fn privacy_figure(results: &Results) -> Figure {
    let entries = [
        Entry::new("protection against overfitting", PROTECTION, WHOLE.sets("all")),
        Entry::new("authentic", AUTHENTICITY, WHOLE),
    ];
    let y = |_: &Bars| Axis::share("fraction (%)");
    let panel = results.panel("", y, &REFERENCES[..1], &entries);
    let note = "Protection: generated graphs are no nearer to training graphs than to test graphs. Authentic: farther from the nearest training graph than that one is from its own nearest. Higher is more private; noise is perfectly private.";
    results.figure("Privacy", vec![panel], PAGE, 300.0, note)
}
