//! `tracegym report`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::Ending;
use crate::durable;
use crate::error::UserError;
use crate::report::splice;

/// Arguments of `tracegym report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Documents whose tables are generated anew from the results that they name.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    splice: Vec<PathBuf>,
    /// Changes nothing; fails if a document differs from its results.
    #[arg(long)]
    check: bool,
    /// Folder that the paths of results in a document start from.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// Generates the tables of documents.
pub fn run(arguments: &ReportArgs) -> Result<Ending> {
    let mut differs = false;
    for path in &arguments.splice {
        let before = std::fs::read_to_string(path)
            .map_err(|error| UserError::io(path, "cannot be read", error))?;
        let after = splice::splice(path, &before, &arguments.root)?;
        if after == before {
            continue;
        }
        if arguments.check {
            differs = true;
            println!("{}: differs from the results that it names", path.display());
        } else {
            durable::write(Path::new(path), after.as_bytes())?;
            println!("{}: tables generated anew", path.display());
        }
    }
    Ok(if differs { Ending::Failed } else { Ending::Done })
}
