//! What stands under every table and figure.

use super::ReportInput;
use super::arms::{Arm, name};
use crate::number::grouped;

/// How several seeds were put together, for tables with intervals.
const SEVERAL_SEEDS: &str = "Means over seeds. Intervals of shares of prompts or graphs are Wilson's, widened where seeds disagree more than chance explains; other intervals reach from the lowest to the highest end of the seeds'.";
const ONE_SEED: &str = "One seed: intervals show the uncertainty of the sample of prompts and graphs, not that of training.";

/// Seeds and answers behind the numbers; how to read intervals; the dataset with its labels; failures.
pub fn notes(input: &ReportInput, arms: &[Arm]) -> Vec<String> {
    let mut notes = background(input, arms);
    let several = arms.iter().any(|arm| arm.runs.len() > 1).then_some(SEVERAL_SEEDS);
    let meaning = several.into_iter().chain(one_seed(arms)).chain(one_service(arms));
    let meaning = meaning.collect::<Vec<_>>().join(" ");
    notes.insert(1, format!("95 % intervals in brackets. {meaning}"));
    notes
}

/// As [`notes`], for tables without intervals, and those that say themselves what theirs are.
pub fn background(input: &ReportInput, arms: &[Arm]) -> Vec<String> {
    let mut notes = vec![sample(arms)];
    notes.extend(common(input, arms));
    notes
}

/// What the intervals of arms with one seed do not know.
pub fn one_seed(arms: &[Arm]) -> Option<&'static str> {
    (arms.is_empty() || arms.iter().any(|arm| arm.runs.len() == 1)).then_some(ONE_SEED)
}

const ONE_SERVICE: &str = "One service: no intervals but those of shares of prompts or graphs, as others come from drawing services.";

/// Why arms whose prompts are all of one service have hardly an interval.
pub fn one_service(arms: &[Arm]) -> Option<&'static str> {
    arms.iter().any(|arm| arm.services() == Some(1)).then_some(ONE_SERVICE)
}

/// As [`notes`], for figures.
pub fn figure_notes(input: &ReportInput, arms: &[Arm]) -> Vec<String> {
    let mut notes = vec![format!("{} Bands and bars: 95 % intervals.", sample(arms))];
    let mut left_out: Vec<&str> = Vec::new();
    for run in input.runs {
        let drawn = arms.iter().any(|arm| arm.label == run.label);
        if !drawn && !left_out.contains(&run.label.as_str()) {
            left_out.push(&run.label);
        }
    }
    if !left_out.is_empty() {
        notes.push(format!("In the tables only: {}.", list(&left_out)));
    }
    notes.extend(common(input, arms));
    notes
}

fn common(input: &ReportInput, arms: &[Arm]) -> Vec<String> {
    let card = input.dataset;
    let mut notes = vec![format!(
        "Dataset `{}`: {} training and {} test graphs of {} services, split {}. Profile `{}`.",
        card.name,
        grouped(card.split.train_graphs, ","),
        grouped(card.split.test_graphs, ","),
        grouped(card.services, ","),
        if card.split.kind.is_empty() { "unknown" } else { &card.split.kind },
        input.profile,
    )];
    if input.profile == "smoke" {
        notes.push(
            "The smoke profile proves that everything runs; its numbers mean nothing.".into(),
        );
    }
    notes.extend(card.labels.iter().cloned());
    notes.extend(
        arms.iter()
            .filter_map(|arm| Some(format!("`{}` failed: {}", name(arm, arms), arm.failure()?))),
    );
    notes
}

/// Labels one after the other; semicolons, as labels hold commas.
pub fn list(labels: &[impl AsRef<str>]) -> String {
    labels.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("; ")
}

/// "3 seeds (0, 1, 2), 6,800 answers each, 300 services.", once if all arms agree.
pub fn sample(arms: &[Arm]) -> String {
    let mut samples: Vec<(String, Vec<String>)> = Vec::new();
    for arm in arms.iter().filter(|arm| arm.failure().is_none()) {
        let sample = sample_of(arm);
        let name = name(arm, arms);
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
            let each = samples.iter().map(|(sample, names)| format!("{}: {sample}.", list(names)));
            each.collect::<Vec<_>>().join(" ")
        }
    }
}

fn sample_of(arm: &Arm) -> String {
    let seeds: Vec<String> = arm.runs.iter().map(|run| run.seed.to_string()).collect();
    let word = if seeds.len() == 1 { "seed" } else { "seeds" };
    let per_seed = arm.graphs() / arm.runs.len().max(1) as u64;
    let each = if seeds.len() == 1 { "" } else { " each" };
    let services = arm.services().map_or(String::new(), |services| {
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
