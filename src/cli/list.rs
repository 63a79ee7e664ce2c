//! `tracegym list`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::Ending;
use crate::data::DatasetManifest;
use crate::generators::REGISTRY;
use crate::run::Cache;
use crate::run::manifest::{Baseline, Experiment, Profile};

/// Arguments of `tracegym list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Folder for finished stages.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_CACHE", default_value = ".tracegym")]
    cache: PathBuf,
}

/// Prints experiments, generators, datasets and what is cached.
pub fn list(arguments: &ListArgs) -> Result<Ending> {
    println!("experiments (tracegym run ID --profile smoke|quick|standard|full)");
    for id in Experiment::ids() {
        match Experiment::find(&id, Profile::Quick) {
            Ok(found) => println!("  {id:24} {} ({}; {})", found.title, found.paper, found.dataset),
            Err(error) => println!("  {id:24} {error:#}"),
        }
    }
    println!("baselines");
    for name in Baseline::names() {
        match Baseline::find(&name, Profile::Quick) {
            Ok(found) => println!("  {name:24} {} ({})", found.label, found.source),
            Err(error) => println!("  {name:24} {error:#}"),
        }
    }
    println!("generators (for baselines/NAME.toml)");
    for entry in REGISTRY {
        println!("  {:24} {}", entry.id, entry.about);
    }
    println!("datasets (--dataset NAME)");
    for name in DatasetManifest::names() {
        println!("  {name}");
    }
    let cache = Cache::new(&arguments.cache);
    println!("cached in {}", arguments.cache.display());
    for kind in ["dataset", "train", "generate", "evaluate", "floor", "report"] {
        let (stages, bytes) = cache.usage(kind);
        println!("  {kind:24} {stages:>4} stages {:>10.1} MB", bytes as f64 / 1e6);
    }
    Ok(Ending::Done)
}
