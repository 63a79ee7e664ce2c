//! `tracegym model`: trained generators that can be handed to others.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::run::{Cache, Model, Profile, Wanted};

#[derive(Args, Debug)]
pub struct ModelVerbs {
    #[command(subcommand)]
    verb: ModelVerb,
}

#[derive(Subcommand, Debug)]
enum ModelVerb {
    /// Writes a trained generator to a folder: its files, and a card with settings, the hash of its training
    /// data, metrics and licence.
    Export {
        /// A baseline that is trained in the cache.
        name: String,
        /// A new or empty folder.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Under which terms the model is handed over.
        #[arg(long, value_name = "TEXT")]
        licence: Option<String>,
        #[command(flatten)]
        choice: TrainingChoice,
    },
    /// Shows the card of a model.
    Show {
        /// A baseline that is trained in the cache, or a folder that `model export` wrote.
        #[arg(value_name = "NAME|FOLDER")]
        model: String,
        #[command(flatten)]
        choice: TrainingChoice,
    },
}

/// Which training is meant of those that the cache holds.
#[derive(Args, Debug)]
pub struct TrainingChoice {
    /// Profile of the training; the largest that is trained if not given.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Experiment of the training; any that has the generator if not given.
    #[arg(long, value_name = "ID|FILE")]
    experiment: Option<String>,
    /// Dataset of the training, if it is not the experiment's own.
    #[arg(long, value_name = "NAME|FILE")]
    dataset: Option<String>,
    /// Folder with finished stages.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_CACHE", default_value = ".tracegym")]
    cache: PathBuf,
}

/// Flags of the verbs that use a trained generator.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// A baseline that is trained in the cache, or a folder that `model export` wrote.
    #[arg(long, value_name = "NAME|FOLDER")]
    model: String,
    #[command(flatten)]
    choice: TrainingChoice,
    /// Folder with the real traces that dataset manifests name.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_DATA")]
    pub data: Option<PathBuf>,
}

impl ModelArgs {
    /// The model that is meant.
    ///
    /// # Errors
    /// One that is not there, with what would make it.
    pub fn find(&self) -> Result<Model> {
        self.choice.find(&self.model, self.data.clone())
    }
}

impl TrainingChoice {
    fn find(&self, model: &str, data_root: Option<PathBuf>) -> Result<Model> {
        let wanted = Wanted {
            name: model,
            profile: self.profile,
            experiment: self.experiment.as_deref(),
            dataset: self.dataset.as_deref(),
            data_root: data_root.as_deref(),
        };
        Model::of(model, &wanted, &Cache::new(&self.cache))
    }
}

/// Runs a verb of `tracegym model`.
pub fn run(args: &ModelVerbs) -> Result<()> {
    let data_root = crate::data::data_root();
    match &args.verb {
        ModelVerb::Export { name, out, licence, choice } => {
            let mut model = choice.find(name, data_root)?;
            if let Some(licence) = licence {
                model.card.licence.clone_from(licence);
            }
            model.export(out)?;
            println!("{}", out.display());
        }
        ModelVerb::Show { model, choice } => {
            print!("{}", choice.find(model, data_root)?.card.readme());
        }
    }
    Ok(())
}
