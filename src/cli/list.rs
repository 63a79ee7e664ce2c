//! `tracegym list`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Ending;
use crate::data::{DATASETS, data_root};
use crate::display;
use crate::generators::REGISTRY;
use crate::run::baseline::{BASELINES, Baseline};
use crate::run::manifest::{EXPERIMENTS, Experiment, GROUPS, Profile};
use crate::run::{Cache, Device, Plan, PlanOptions};

/// Arguments of `tracegym list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Folder for finished stages.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_CACHE", default_value = ".tracegym")]
    cache: PathBuf,
}

/// Prints experiments, generators, datasets and what is cached.
pub fn list(arguments: &ListArgs) -> Result<Ending> {
    end_with_the_reader();
    println!("experiments (tracegym run ID --profile smoke|quick|standard|full)");
    for (folder, about) in GROUPS {
        println!("  {about} ({folder}/)");
        for id in EXPERIMENTS.names_in(folder) {
            match Experiment::find(&id, Profile::Quick) {
                Ok(Experiment { title, paper, dataset, .. }) => {
                    say(&format!("    {id:24} {title} ({paper}; {dataset})"));
                }
                Err(error) => say(&format!("    {id:24} {error:#}")),
            }
        }
    }
    println!("baselines");
    for name in BASELINES.names() {
        match Baseline::find(&name, Profile::Quick) {
            Ok(found) => say(&format!("  {name:24} {} ({})", found.label, found.source)),
            Err(error) => say(&format!("  {name:24} {error:#}")),
        }
    }
    println!("generators (for baselines/NAME.toml)");
    for entry in REGISTRY {
        println!("  {:24} {}", entry.id, entry.about);
    }
    println!("datasets (--dataset NAME)");
    for name in DATASETS.names() {
        say(&format!("  {name}"));
    }
    let cache = Cache::new(&arguments.cache);
    println!("cached in {}", arguments.cache.display());
    for id in EXPERIMENTS.names() {
        for profile in Profile::value_variants() {
            if let Ok((done, of)) = progress_of(&cache, &id, *profile)
                && done > 0
            {
                println!("  {id:24} {done:>4} of {of} stages of profile {}", profile.as_str());
            }
        }
    }
    for (kind, stages, bytes) in cache.usage() {
        println!("  {kind:24} {stages:>4} stages {:>10.1} MB", bytes as f64 / 1e6);
    }
    Ok(Ending::Done)
}

/// What manifests say is theirs.
fn say(line: &str) {
    println!("{}", display::message(line));
}

/// Lets `list | head` end without a word. Only here: other verbs write to programs that may have ended,
/// which must not end them.
fn end_with_the_reader() {
    #[cfg(unix)]
    // SAFETY: the default action replaces that of the runtime; no handler of ours is lost.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// How many stages of an experiment on its own dataset and the CPU are finished, of how many.
fn progress_of(cache: &Cache, id: &str, profile: Profile) -> Result<(usize, usize)> {
    let plan = Plan::new(
        vec![Experiment::find(id, profile)?],
        &PlanOptions {
            dataset: None,
            graphs: None,
            data_root: data_root(),
            device: Device { name: "cpu".into(), reason: String::new() },
            batch: 1,
            formats: BTreeSet::new(),
        },
    )?;
    let stages = plan.stages.values();
    let done = stages.filter(|stage| cache.is_done(stage.work.kind(), &stage.key)).count();
    Ok((done, plan.stages.len()))
}
