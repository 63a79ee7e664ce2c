//! `tracegym data`: builds datasets and shows what they are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use super::inspect::{self, InspectArgs};
use super::output::OutputArgs;
use super::simulate::{self, SimulateArgs};
use crate::data::{
    BuildOptions, Dataset, DatasetCard, DatasetManifest, Side, build, comparison, data_root,
};
use crate::display;
use crate::error::UserError;
use crate::graph::CallGraph;
use crate::progress::Progress;

#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Subcommand, Debug)]
enum DataVerb {
    /// Builds a dataset, prints its funnel, and writes calls.parquet and card.json.
    Build(BuildArgs),
    /// Writes the graphs of a dataset in any of many formats.
    Export(ExportArgs),
    /// Shows the card of a dataset that was built.
    Card {
        /// Folder with the dataset's card.json.
        dir: PathBuf,
    },
    /// Prints what the graphs of datasets look like, side by side: the table of docs/simulator.md.
    Compare(CompareArgs),
    /// Tells what files of traces are, what is in them and what is wrong with them, and prints a manifest.
    Inspect(InspectArgs),
    /// Writes simulated traces as CSV: raw rows of the Alibaba v2022 table, or complete graphs.
    Simulate {
        #[command(flatten)]
        args: SimulateArgs,
        /// No progress on standard error.
        #[arg(long)]
        quiet: bool,
    },
}

#[derive(Args, Debug)]
struct BuildArgs {
    /// Name of a dataset (data/NAME.toml or built in) or a manifest file.
    dataset: String,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder that holds the traces; manifests name paths inside it. The environment variable
    /// TRACEGYM_DATA does the same.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave out rows that cannot be read, with their traces, and count them in the funnel instead of
    /// stopping at the first.
    #[arg(long)]
    skip_bad_rows: bool,
    /// How many graphs are drawn or simulated; of measured graphs, at most how many are kept.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    graphs: Option<u64>,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args, Debug)]
struct ExportArgs {
    /// Name of a dataset (data/NAME.toml or built in), a manifest file, or a folder that `data build` wrote.
    dataset: String,
    #[command(flatten)]
    output: OutputArgs,
    /// Which graphs of the dataset.
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// Only graphs of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// At most so many graphs, the first ones.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Folder that holds the traces, as of `data build`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many graphs are drawn or simulated; of measured graphs, at most how many are kept.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    graphs: Option<u64>,
    /// Seed of ids and of the order of attributes in texts.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    All,
    Train,
    Test,
    /// Graphs that met an injected fault.
    Faulty,
}

#[derive(Args, Debug)]
struct CompareArgs {
    /// Names of datasets (data/NAME.toml or built in), manifest files, or folders that `data build` wrote, of
    /// which all graphs count.
    #[arg(required = true)]
    datasets: Vec<String>,
    /// Folder that holds the traces, as of `data build`.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many graphs are drawn or simulated; of measured graphs, at most how many are kept.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    graphs: u64,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// Runs a verb of `tracegym data`.
pub fn run(args: &DataArgs) -> Result<()> {
    match &args.verb {
        DataVerb::Build(args) => run_build(args),
        DataVerb::Export(args) => export(args),
        DataVerb::Card { dir } => show_card(dir),
        DataVerb::Compare(args) => compare(args),
        DataVerb::Inspect(args) => inspect::run(args),
        DataVerb::Simulate { args, quiet } => simulate::run(args, Progress::detect(*quiet)),
    }
}

fn run_build(args: &BuildArgs) -> Result<()> {
    let manifest = DatasetManifest::find(&args.dataset)?;
    let out = &args.out;
    let failed = |error| UserError::io(out, "cannot be written", error);
    std::fs::create_dir_all(out).map_err(failed)?;
    let options = BuildOptions {
        data_root: args.data.clone().or_else(data_root),
        skip_bad_rows: args.skip_bad_rows || manifest.skip_bad_rows,
        graphs: args.graphs,
        scratch: out.clone(),
        progress: Progress::detect(args.quiet),
    };
    let mut dataset = build(&manifest, &options)?;
    // Both files are written beside the folder's content and moved into place.
    let fresh = tempfile::tempdir_in(out).map_err(failed)?;
    dataset.save(fresh.path())?;
    for entry in std::fs::read_dir(fresh.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        std::fs::rename(entry.path(), out.join(entry.file_name())).map_err(failed)?;
    }
    print_card(&dataset.card);
    println!("written to {}", out.display());
    Ok(())
}

/// Whether a folder is one that `data build` wrote.
fn is_built(folder: &Path) -> bool {
    folder.join("card.json").is_file() && folder.join("calls.parquet").is_file()
}

/// The dataset of a folder that `data build` wrote, or else of a name or manifest file, which is built with
/// so many `graphs`.
///
/// # Errors
/// One that is not there or cannot be built.
pub fn dataset(
    given: &str,
    data: Option<&Path>,
    graphs: Option<u64>,
    progress: Progress,
) -> Result<Dataset> {
    if is_built(Path::new(given)) {
        return Dataset::load(Path::new(given));
    }
    let manifest = DatasetManifest::find(given)?;
    let scratch = tempfile::tempdir()
        .map_err(|error| UserError::io(&std::env::temp_dir(), "cannot be written", error))?;
    let options = BuildOptions {
        data_root: data.map(Path::to_owned).or_else(data_root),
        skip_bad_rows: manifest.skip_bad_rows,
        graphs,
        progress,
        ..BuildOptions::new(scratch.path())
    };
    build(&manifest, &options)
}

fn export(args: &ExportArgs) -> Result<()> {
    args.output.check(0)?;
    if args.graphs.is_some() && is_built(Path::new(&args.dataset)) {
        let message = format!(
            "--graphs: {} is built already; --limit N takes the first graphs of it",
            args.dataset
        );
        return Err(UserError::setting(message).into());
    }
    let progress = Progress::detect(args.quiet);
    let dataset = dataset(&args.dataset, args.data.as_deref(), args.graphs, progress)?;
    for label in &dataset.card.labels {
        progress.say(&format!("note: {}", display::line(label)));
    }
    let graphs: Vec<&CallGraph> = match args.part {
        Part::All => dataset.graphs().iter().collect(),
        Part::Train => dataset.side(Side::Train),
        Part::Test => dataset.side(Side::Test),
        Part::Faulty => dataset.side(Side::Faulty),
    };
    let is_meant =
        |graph: &&&CallGraph| args.service.as_ref().is_none_or(|s| **graph.service() == **s);
    let meant = graphs.iter().filter(is_meant).take(args.limit.unwrap_or(usize::MAX));
    args.output.check(meant.clone().count() as u64)?;
    args.output.write(args.seed, |out| {
        (0..).zip(meant).try_for_each(|(number, graph)| out.write(number, graph))
    })
}

fn compare(args: &CompareArgs) -> Result<()> {
    let mut columns = Vec::new();
    for name in &args.datasets {
        let progress = Progress::detect(args.quiet);
        let dataset = dataset(name, args.data.as_deref(), Some(args.graphs), progress)?;
        columns.push(comparison::rows(dataset.graphs()));
    }
    let names: Vec<_> = args.datasets.iter().map(|name| display::line(name).to_string()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(names.len()));
    for (row, (label, _)) in columns[0].iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[row].1.as_str()).collect();
        println!("| {label} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn show_card(dir: &Path) -> Result<()> {
    let path = dir.join("card.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| UserError::io(&path, "cannot be read", error))?;
    let card: DatasetCard = serde_json::from_str(&text).map_err(|error| {
        let place = format!("line {}", error.line());
        UserError::input(&path, place, format!("is not a dataset's card: {error}"))
    })?;
    print_card(&card);
    Ok(())
}

fn print_card(card: &DatasetCard) {
    println!("dataset {} from {}", display::name(&card.name), card.source);
    for label in &card.labels {
        println!("  note: {}", display::line(label));
    }
    for input in &card.inputs {
        let name = display::line(&input.name);
        println!("  input {name} ({} bytes, blake3 {})", input.bytes, &input.hash);
    }
    print!("{}", card.funnel);
    for (words, count) in &card.changes {
        println!("  {count} {words}");
    }
    println!(
        "{} graphs, {} calls, {} services, {} microservices",
        card.graphs, card.calls, card.services, card.microservices
    );
    let split = &card.split;
    println!(
        "split {} (seed {}): {} train, {} test; of the test graphs {:.1} % have a tree shape that \
         occurs in training, {:.1} % with the same service",
        split.kind,
        split.seed,
        split.train_graphs,
        split.test_graphs,
        100.0 * split.test_structure_in_train,
        100.0 * split.test_service_structure_in_train,
    );
    let held_out = &card.held_out;
    println!(
        "for prompts of exact shapes: {} {} of {} numbers of edges and depth",
        held_out.graphs,
        display::line(&held_out.from),
        held_out.shapes
    );
    if card.graphs == 0 {
        println!("no graph is left: this dataset can neither train nor test a generator");
    }
    println!("hash {}", card.hash);
}
