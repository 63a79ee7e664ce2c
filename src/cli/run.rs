//! `tracegym all` and `tracegym run`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::Ending;
use crate::device::DeviceChoice;
use crate::error::{UserError, did_you_mean, is_by_user};
use crate::generators::{self, external};
use crate::model::{self, Chosen};
use crate::progress::Progress;
use crate::report::Format;
use crate::run::manifest::{EXPERIMENTS, Experiment, Measure, Profile};
use crate::run::variant::{Groups, Variant};
use crate::run::{Baseline, Cache, Plan, PlanOptions, Published, Publisher, RunOptions, variant};
use crate::{check, display, report, run, toml_file};

/// Flags of the verbs that run experiments.
#[derive(Args, Debug)]
pub struct RunFlags {
    /// How much work to do.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// Dataset in place of the experiments' own: a name in data/ or a manifest file.
    #[arg(long, value_name = "NAME|FILE")]
    dataset: Option<String>,
    /// Graphs to draw or simulate, in place of the profile's or the dataset's number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    graphs: Option<u64>,
    /// Generators besides the experiments' own, such as yours: a row in every table.
    #[arg(long, value_name = "NAME|@GROUP,…", value_delimiter = ',')]
    with: Vec<String>,
    /// Generators to leave out, such as those that a dataset's graphs are too large for.
    #[arg(long, value_name = "NAME|@GROUP,…", value_delimiter = ',')]
    without: Vec<String>,
    /// The only generators to run, whether the experiments have them or not.
    #[arg(long, value_name = "NAME|@GROUP,…", value_delimiter = ',', conflicts_with_all = ["with", "without"])]
    only: Vec<String>,
    /// Changes a setting of the generator NAME, or of all that have it; may be given several times.
    #[arg(long, value_name = "[NAME.]KEY=VALUE")]
    set: Vec<String>,
    /// Seeds in place of the profile's: 0,1,2.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = seed, allow_negative_numbers = true)]
    seeds: Option<Vec<u64>>,
    /// Folder with the real traces that dataset manifests name.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_DATA")]
    data: Option<PathBuf>,
    /// Device for neural networks: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Graphs generated at once; does not change results.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Stages at once; as many as there are processor cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Threads that the running stages share; the number of processor cores by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Trains the generators and stops; the same command without this flag goes on from there.
    #[arg(long)]
    train_only: bool,
    /// Folder for finished stages, which later runs use again.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_CACHE", default_value = ".tracegym")]
    cache: PathBuf,
    /// Folder below which results/ and paper-figures/ are written.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Formats to write besides CSV, Markdown and SVG: LaTeX tables, figures as bitmaps.
    #[arg(long, value_name = "FORMAT,…", value_enum, value_delimiter = ',')]
    formats: Vec<Format>,
    /// Says nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Arguments of `tracegym run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Ids (see `tracegym list`) or manifest files.
    #[arg(required = true, value_name = "ID|FILE")]
    experiments: Vec<String>,
    #[command(flatten)]
    flags: RunFlags,
}

/// Runs every experiment.
pub fn all(flags: &RunFlags) -> Result<Ending> {
    execute(&EXPERIMENTS.names(), flags)
}

/// Runs the named experiments.
pub fn run(arguments: &RunArgs) -> Result<Ending> {
    execute(&arguments.experiments, &arguments.flags)
}

fn seed(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| {
        format!(
            "a seed is a whole number from 0 to {}; several are separated by commas: 0,1,2",
            u64::MAX
        )
    })
}

fn execute(experiments: &[String], flags: &RunFlags) -> Result<Ending> {
    // Before any work: stages are told these paths in JSON, which has no other text.
    is_text("--cache", &flags.cache)?;
    flags.data.as_deref().map_or(Ok(()), |data| is_text("--data", data))?;
    let progress = Progress::detect(flags.quiet);
    let say = |line: &str| {
        if progress != Progress::Quiet {
            eprintln!("{line}");
        }
    };
    let mut experiments: Vec<Experiment> = experiments
        .iter()
        .map(|name| Experiment::find(name, flags.profile))
        .collect::<Result<_>>()?;
    if let Some(seeds) = &flags.seeds {
        check::each_once("--seeds", seeds).map_err(UserError::setting)?;
        for experiment in &mut experiments {
            experiment.seeds.clone_from(seeds);
            experiment.extra_seeds.clear();
        }
    }
    let groups = Groups::default();
    if !flags.only.is_empty() {
        let mut only = Vec::new();
        for name in &flags.only {
            only.extend(groups.named(name)?);
        }
        experiments = experiments.into_iter().map(|e| keep(e, &only)).collect();
    }
    for name in &flags.with {
        groups.named(name)?.iter().for_each(|variant| add(variant, &mut experiments));
    }
    for name in &flags.without {
        leave_out(name, &groups.named(name)?, &mut experiments)?;
    }
    for assignment in &flags.set {
        let lists = experiments.iter_mut().flat_map(|e| [&mut e.generators, &mut e.plot]);
        set(assignment, &mut lists.collect::<Vec<_>>())?;
    }
    let Chosen { name, reason, .. } = model::device(flags.device)?;
    say(&format!("device {name}: {reason}"));
    let device = run::Device { name, reason };
    let plan = Plan::new(
        experiments,
        &PlanOptions {
            dataset: flags.dataset.clone(),
            graphs: flags.graphs,
            data_root: flags.data.clone(),
            device,
            batch: usize::from(flags.batch),
            formats: flags.formats.iter().copied().collect(),
        },
    )?;
    run::check_clashes(&plan, &flags.out)?;
    let publisher = Publisher::new(&flags.out, &plan)?;
    let cache = Cache::new(&flags.cache);
    let _lock = cache.lock()?;
    let started = Instant::now();
    let threads = flags.threads.map_or_else(run::threads, usize::from);
    let jobs = flags.jobs.map_or_else(run::threads, usize::from);
    let mut published = 0;
    let mut outcome = run::run(
        &plan,
        &cache,
        RunOptions { jobs, threads, progress, train_only: flags.train_only },
        &mut |experiment, report| {
            let new = publisher.publish(&plan, experiment, report, &cache)?;
            published += usize::from(new.is_some());
            Ok(new.map(|new| told(&experiment.experiment.id, &new)))
        },
    )?;
    // What is published is there, however the others ended.
    if let Err(error) = run::write_index(&flags.out) {
        outcome.by_user &= is_by_user(&error);
        outcome.failures.push(("the index of all results".to_owned(), format!("{error:#}")));
    }
    if let Some(left) = outcome.interrupted {
        eprintln!(
            "interrupted: {} stages were finished and are kept in {}, {left} or more are left; \
             the same command goes on from there",
            outcome.ran,
            flags.cache.display()
        );
        return Ok(Ending::Interrupted);
    }
    if !outcome.failures.is_empty() || outcome.blocked > 0 {
        for (label, reason) in &outcome.failures {
            eprintln!("failed: {}: {}", display::line(label), display::message(reason));
        }
        eprintln!(
            "{} failed and {} stages could not run without them; {} ran. The same command tries \
             them again",
            outcome.failures.len(),
            outcome.blocked,
            outcome.ran
        );
        return Ok(if outcome.by_user { Ending::Mistaken } else { Ending::Failed });
    }
    if outcome.ran == 0 && published == 0 {
        say("everything is up to date");
    } else {
        say(&format!(
            "{} experiments, {} stages run in {}",
            plan.experiments.len(),
            outcome.ran,
            run::duration(started.elapsed())
        ));
    }
    Ok(Ending::Done)
}

/// Adds a generator to all experiments in which generators answer.
fn add(variant: &Variant, experiments: &mut [Experiment]) {
    // A probe tunes the networks that it names.
    let answered = |experiment: &&mut Experiment| matches!(experiment.measure, Measure::Answers(_));
    for experiment in experiments.iter_mut().filter(answered) {
        if !experiment.generators.iter().any(|known| known.name() == variant.name()) {
            experiment.generators.push(variant.clone());
            // Where there is room for one more series.
            if !experiment.plot.is_empty() && experiment.plot.len() < report::MAX_DRAWN {
                experiment.plot.push(variant.clone());
            }
        }
    }
}

/// An experiment with these generators alone, as it has them where it does.
fn keep(experiment: Experiment, only: &[Variant]) -> Experiment {
    // A probe tunes the networks that it names.
    if !matches!(experiment.measure, Measure::Answers(_)) {
        return experiment;
    }
    let own = |variant: &Variant| {
        let known = experiment.generators.iter().find(|known| known.name() == variant.name());
        known.unwrap_or(variant).clone()
    };
    let kept = only.iter().map(own).collect();
    experiment.only(kept)
}

/// Takes a generator, or all of a group, out of all experiments.
///
/// # Errors
/// One that none of them has, or without which one of them would have nothing to do.
fn leave_out(name: &str, meant: &[Variant], experiments: &mut [Experiment]) -> Result<()> {
    let meant: Vec<String> = meant.iter().map(Variant::name).collect();
    let is_meant = |variant: &Variant| meant.contains(&variant.name());
    if !experiments.iter().flat_map(|e| &e.generators).any(is_meant) {
        let mut known: Vec<String> =
            experiments.iter().flat_map(|e| &e.generators).map(Variant::name).collect();
        known.sort_unstable();
        known.dedup();
        let hint = did_you_mean(name, known.iter().map(String::as_str));
        let known = known.join(", ");
        let message = format!("--without {name}: no experiment here has it{hint}; known: {known}");
        return Err(UserError::setting(message).into());
    }
    for experiment in experiments {
        experiment.generators.retain(|known| !is_meant(known));
        let chosen = !experiment.plot.is_empty();
        experiment.plot.retain(|known| !is_meant(known));
        if chosen && experiment.plot.is_empty() {
            let first = experiment.generators.iter().take(report::MAX_DRAWN);
            experiment.plot.extend(first.cloned());
        }
        if experiment.generators.is_empty() {
            let message =
                format!("--without {name}: leaves experiment `{}` no generator", experiment.id);
            return Err(UserError::setting(message).into());
        }
    }
    Ok(())
}

/// Does what `--set [NAME.]KEY=VALUE` asks for in all `lists` of generators: NAME is that of a baseline, whose
/// variants all change, or of one variant; without it every generator that has the setting changes.
///
/// # Errors
/// What is not of this form, or that no generator has.
fn set(asked: &str, lists: &mut [&mut Vec<Variant>]) -> Result<()> {
    let wrong = |message: String| UserError::setting(format!("--set {asked}: {message}"));
    let Some((place, value)) = asked.split_once('=') else {
        let message = "is not KEY=VALUE or NAME.KEY=VALUE, such as size=m or recursive-llm.size=m";
        return Err(wrong(message.to_owned()).into());
    };
    let mut names: Vec<String> = Vec::new();
    for variant in lists.iter().flat_map(|list| list.iter()) {
        names.extend([variant.baseline.clone(), variant.name()]);
    }
    names.sort_unstable();
    names.dedup();
    let key_of = |name: &String| place.strip_prefix(name.as_str())?.strip_prefix('.');
    let name = names.iter().filter(|name| key_of(name).is_some()).max_by_key(|name| name.len());
    let key = name.and_then(key_of).unwrap_or(place);
    let Some(settings) = variant::assignment(key, value) else {
        return Err(wrong(format!("`{key}` is no key of TOML")).into());
    };
    let mut changed = false;
    for variant in lists.iter_mut().flat_map(|list| list.iter_mut()) {
        let meant = match name {
            Some(name) => variant.baseline == *name || variant.name() == *name,
            None => takes(variant, &settings)?,
        };
        if meant {
            variant.set(&settings);
            changed = true;
        }
    }
    if changed {
        return Ok(());
    }
    let hint = place
        .split_once('.')
        .map_or_else(String::new, |(name, _)| did_you_mean(name, names.iter().map(String::as_str)));
    let known = names.join(", ");
    let message = format!("no generator here has this setting{hint}; generators here: {known}");
    Err(wrong(message).into())
}

/// Whether the generator of a variant knows all the settings, whatever their values.
fn takes(variant: &Variant, settings: &toml::Table) -> Result<bool> {
    let baseline = Baseline::find(&variant.baseline, Profile::Quick)?;
    let unknown = |key: &String| {
        let refused = generators::recipe(
            &baseline.generator,
            &toml_file::merged(&baseline.settings, settings),
        );
        refused.is_err_and(|error| error.to_string().contains(&format!("unknown field `{key}`")))
    };
    Ok(baseline.generator == external::ID || !settings.keys().any(unknown))
}

/// Where the results of an experiment are.
fn told(id: &str, new: &Published) -> String {
    let shown = |folder: &Path| folder.strip_prefix(".").unwrap_or(folder).display().to_string();
    let folder = shown(&new.folder);
    match &new.kept {
        None => format!("{id}: {folder}"),
        Some(kept) => format!(
            "{id}: not all rows are there: this run is in {folder}, and {} keeps the last complete one",
            shown(kept)
        ),
    }
}

/// Whether a path that a flag gave is UTF-8.
fn is_text(flag: &str, path: &Path) -> Result<(), UserError> {
    if path.to_str().is_some() {
        return Ok(());
    }
    let message =
        format!("{flag} {path:?}: the path is not UTF-8: rename the folder, or use another");
    Err(UserError::setting(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_where_they_are_meant() {
        let constrained = "name = 'recursive-llm'\ndecoding = 'constrained'\nlabel = 'X'";
        let plain = |name| Variant::plain(name);
        let mut variants = vec![
            plain("recursive-llm"),
            toml::from_str(constrained).unwrap(),
            plain("tvae"),
            plain("training-set-copy"),
        ];
        let change = |asked: &str| {
            let mut changed = variants.clone();
            set(asked, &mut [&mut changed]).map_err(|error| format!("{error:#}"))?;
            Ok::<_, String>(changed.iter().map(Variant::name).collect::<Vec<_>>())
        };
        assert_eq!(
            change("recursive-llm.size=m").unwrap(),
            [
                "recursive-llm-size-m",
                "recursive-llm-size-m-constrained",
                "tvae",
                "training-set-copy"
            ]
        );
        assert_eq!(
            change("recursive-llm-constrained.tokens=70_000").unwrap()[..2],
            ["recursive-llm", "recursive-llm-tokens-70000-constrained"]
        );
        // Of those that have it.
        assert_eq!(
            change("steps=50").unwrap(),
            ["recursive-llm", "recursive-llm-constrained", "tvae-steps-50", "training-set-copy"]
        );
        for (assignment, words) in [
            ("size", "is not KEY=VALUE or NAME.KEY=VALUE"),
            ("=3", "`` is no key of TOML"),
            ("stesp=50", "no generator here has this setting"),
            ("recursive-lm.size=m", "did you mean `recursive-llm`"),
        ] {
            let error = change(assignment).unwrap_err();
            assert!(error.contains(words), "{assignment}: {error}");
        }
        set("recursive-llm.size=m", &mut [&mut variants]).unwrap();
        assert_eq!(variants[1].label.as_deref(), Some("X (size m)"));
    }
}
