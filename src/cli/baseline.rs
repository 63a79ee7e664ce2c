//! `tracegym baseline`: scaffolds and checks generators in other languages.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use super::Ending;
use crate::error::UserError;
use crate::generators::external;
use crate::process;
use crate::run::baseline::BASELINES;
use crate::run::{Baseline, Profile};
use crate::{check, display};

#[derive(Args, Debug)]
pub struct BaselineArgs {
    #[command(subcommand)]
    verb: BaselineVerb,
}

#[derive(Subcommand, Debug)]
enum BaselineVerb {
    /// Writes a generator that runs to baselines/NAME, to be changed into yours.
    New {
        name: String,
        #[arg(long, value_enum, default_value_t = Language::Python)]
        lang: Language,
    },
    /// Tries a generator in another language and tells exactly what is wrong.
    Check {
        /// Its folder below `baselines`.
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Rust,
}

/// A file of a scaffold: its path and content.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($folder:literal, $($file:literal),*) => {
        &[$(($file, include_str!(concat!("../../templates/", $folder, "/", $file)))),*]
    };
}

const PYTHON: &[Template] = template!("python", "baseline.toml", "generator.py");
const RUST: &[Template] =
    template!("rust", "baseline.toml", "Cargo.toml", "Cargo.lock", "src/main.rs");

impl Language {
    fn files(self) -> &'static [Template] {
        match self {
            Self::Python => PYTHON,
            Self::Rust => RUST,
        }
    }
}

/// Runs a verb of `tracegym baseline`.
pub fn run(arguments: &BaselineArgs) -> Result<Ending> {
    match &arguments.verb {
        BaselineVerb::New { name, lang } => scaffold(name, *lang).map(|()| Ending::Done),
        BaselineVerb::Check { name } => check(name),
    }
}

fn scaffold(name: &str, lang: Language) -> Result<()> {
    // Also the name of a package, in any language.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        let message = format!("`{name}` is no name: use lower-case letters, digits and -");
        return Err(UserError::setting(message).into());
    }
    check::name(name).map_err(UserError::setting)?;
    if BASELINES.names().iter().any(|known| known == name) {
        let message = format!("baseline `{name}` exists already: choose another name");
        return Err(UserError::setting(message).into());
    }
    let folder = Path::new("baselines").join(name);
    let failed = |error| UserError::io(&folder, "cannot be written", error);
    std::fs::create_dir_all("baselines").map_err(failed)?;
    // Whole or not at all.
    let fresh = tempfile::tempdir_in("baselines").map_err(failed)?;
    for (file, text) in lang.files() {
        let path: PathBuf = fresh.path().join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, text.replace("@NAME@", name)).map_err(failed)?;
    }
    std::fs::rename(fresh.keep(), &folder).map_err(failed)?;
    println!("{}:", folder.display());
    for (file, _) in lang.files() {
        println!("  {file}");
    }
    println!("try it:     tracegym baseline check {name}");
    println!("compare it: tracegym run fig4-fidelity --profile smoke --with {name}");
    Ok(())
}

fn check(name: &str) -> Result<Ending> {
    let baseline = Baseline::find(name, Profile::Smoke)?;
    if baseline.generator != external::ID {
        let message = format!(
            "baseline `{name}` is built in: only generators in other languages (baselines/NAME/baseline.toml) are checked"
        );
        return Err(UserError::setting(message).into());
    }
    let program = external::program(&baseline.settings)?;
    process::adopt_orphans();
    process::end_when_asked()?;
    let good = external::check(&program, &mut |finding| match finding.outcome {
        Ok(detail) => println!("ok      {}: {}", finding.what, display::message(&detail)),
        Err(error) => {
            println!("FAIL    {}: {}", finding.what, display::message(&format!("{error:#}")));
        }
    });
    process::end();
    if good {
        println!("{name} conforms to the protocol");
        return Ok(Ending::Done);
    }
    println!("docs/adding-a-baseline.md describes every message");
    Ok(Ending::Mistaken)
}
