//! The command line: one file per verb. Exit codes: 0 done, 1 something failed, 2 a mistake of the
//! user (told in one message), 130 interrupted.

mod baseline;
mod data;
mod generate;
mod inspect;
mod list;
mod model;
mod output;
mod replay;
mod report;
mod run;
mod simulate;
mod weights;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::error::is_by_user;
use crate::run::{Line, run_spec};
use crate::{display, process};

/// Benchmark harness for generators of microservice call graphs.
#[derive(Parser)]
#[command(name = "tracegym", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs every experiment: data, training, generation, evaluation, tables and figures.
    All(run::RunFlags),
    /// Runs the experiments given by id or manifest file.
    Run(run::RunArgs),
    /// Builds datasets and shows what they are.
    Data(data::DataArgs),
    /// Generates graphs with a trained generator, in many formats.
    Generate(Box<generate::GenerateArgs>),
    /// Sends traces to a tracing backend at a chosen rate.
    Replay(Box<replay::ReplayArgs>),
    /// Hands trained generators to others and shows what they are.
    Model(model::ModelVerbs),
    /// Shows experiments, generators, datasets and what is cached.
    List(list::ListArgs),
    /// Starts and checks a generator in another language.
    Baseline(baseline::BaselineArgs),
    /// Fetches pretrained weights and shows what weights are.
    Weights(weights::WeightsArgs),
    /// Generates the tables of documents from results.
    Report(report::ReportArgs),
    /// Runs one stage; started by `all` and `run`.
    #[command(hide = true)]
    Stage {
        /// What to do.
        #[arg(long)]
        spec: PathBuf,
    },
}

/// What a verb says when it ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Done,
    Failed,
    /// What failed are mistakes of the user.
    Mistaken,
    Interrupted,
}

/// Runs the verb of this process's arguments.
pub fn main() -> ExitCode {
    // Before any thread starts and anything large is allocated.
    crate::model::tune_allocator();
    let ending = match Cli::parse().verb {
        Verb::All(flags) => run::all(&flags),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Data(arguments) => data::run(&arguments).map(|()| Ending::Done),
        Verb::Generate(arguments) => generate::run(&arguments),
        Verb::Replay(arguments) => replay::run(&arguments),
        Verb::Model(arguments) => model::run(&arguments).map(|()| Ending::Done),
        Verb::List(arguments) => list::list(&arguments),
        Verb::Baseline(arguments) => baseline::run(&arguments),
        Verb::Weights(arguments) => weights::run(&arguments).map(|()| Ending::Done),
        Verb::Report(arguments) => report::run(&arguments),
        Verb::Stage { spec } => return stage(&spec),
    };
    match ending {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(1),
        Ok(Ending::Mistaken) => ExitCode::from(2),
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {}", display::message(&format!("{error:#}")));
            code(&error)
        }
    }
}

fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if is_by_user(error) { 2 } else { 1 })
}

/// Runs one stage and tells the parent process on standard output why it failed.
fn stage(spec: &std::path::Path) -> ExitCode {
    // A stage may be asked to end, and takes with it the programs that it has started.
    process::adopt_orphans();
    let result: Result<()> = process::end_when_asked()
        .context("signals cannot be handled")
        .and_then(|()| run_spec(spec));
    process::end();
    let Err(error) = result else { return ExitCode::SUCCESS };
    let line = Line::Failure { error: format!("{error:#}"), by_user: is_by_user(&error) };
    match serde_json::to_string(&line) {
        Ok(line) => println!("{line}"),
        Err(_) => eprintln!("{error:#}"),
    }
    code(&error)
}
