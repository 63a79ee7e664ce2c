//! `tracegym data inspect`: what files of traces are, and the manifest that reads them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::data::{Change, SourceOutput, comparison, inspect};
use crate::display;
use crate::error::UserError;
use crate::graph::CallGraph;

#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Files, or folders of files, of traces.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How many graphs are drawn as waterfalls.
    #[arg(long, default_value_t = 2)]
    graphs: usize,
}

/// Shows each file by itself.
pub fn run(args: &InspectArgs) -> Result<()> {
    let mut files = Vec::new();
    for path in &args.files {
        if path.is_dir() { files.extend(files_of(path)?) } else { files.push(path.clone()) }
    }
    let mut kinds: Vec<String> = Vec::new();
    let mut refused = 0;
    for path in &files {
        println!("{}", display::line(&path.display().to_string()));
        match show(path, args.graphs) {
            Ok(what) if kinds.contains(&what) => {}
            Ok(what) => kinds.push(what),
            Err(error) if files.len() > 1 => {
                println!("  {}\n", display::message(&format!("{error:#}")));
                refused += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if kinds.len() > 1 {
        println!(
            "The files are of {} kinds ({}): a dataset has one source, so keep each kind in a folder \
             of its own.",
            kinds.len(),
            kinds.join("; ")
        );
    }
    if refused > 0 {
        let message =
            format!("{refused} of {} files are nothing that is read (see above)", files.len());
        return Err(UserError::setting(message).into());
    }
    Ok(())
}

/// How names of files of traces end, and of archives that hold some.
const ENDINGS: [&str; 10] =
    [".csv", ".json", ".jsonl", ".pb", ".binpb", ".parquet", ".tar", ".tgz", ".zip", ".zst"];

/// Whether a file of a folder is looked at: a note beside the traces is not.
fn is_of_traces(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The files of a folder in the order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| UserError::io(folder, "cannot be listed", error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && is_of_traces(&path) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(UserError::input(folder, "folder", "holds no file of traces").into());
    }
    Ok(files)
}

/// Prints all that there is to say of a file; gives what it is.
fn show(path: &Path, graphs: usize) -> Result<String> {
    let found = inspect::recognise(path)?;
    println!("  {}", found.what);
    for line in &found.schema {
        println!("    {}", display::line(line));
    }
    if !found.manifest.contains("kind = \"weighted-structures\"") {
        let scratch = tempfile::tempdir()
            .map_err(|error| UserError::io(&std::env::temp_dir(), "cannot be written", error))?;
        let read = inspect::read(&found.manifest, scratch.path())?;
        println!();
        show_output(&read);
        for graph in examples(&read.graphs, graphs) {
            println!();
            print!("{}", waterfall(graph));
        }
    }
    println!(
        "\nA manifest for it, to be saved as NAME.toml (`tracegym data build NAME.toml --out DIR`):\n"
    );
    println!("{}", found.manifest);
    Ok(found.what)
}

fn show_output(read: &SourceOutput) {
    print!("{}", read.funnel);
    for Change { words, count, trace } in &read.changes {
        let trace = display::name(trace);
        let example = if trace.is_empty() { String::new() } else { format!(" (trace {trace})") };
        println!("  {count} {words}{example}");
    }
    for (step, trace) in &read.examples {
        println!("  not \"{step}\": trace {}, for example", display::name(trace));
    }
    if let Some((whole, traces)) = read.complete {
        let share = 100.0 * whole as f64 / traces.max(1) as f64;
        println!("complete, with one root and no gap: {whole} of {traces} traces ({share:.1} %)");
    }
    if read.graphs.is_empty() {
        println!("no graph is left: a dataset of this could neither train nor test a generator");
        return;
    }
    const SHOWN: [&str; 8] = [
        "graphs",
        "calls",
        "calls per graph",
        "depth ",
        "calls of type ",
        "latency",
        "services",
        "microservices",
    ];
    for (label, value) in comparison::rows(&read.graphs) {
        let head = label.split(':').next().unwrap_or_default();
        let is_shown = |shown: &&str| {
            if shown.ends_with(' ') {
                head.starts_with(*shown) && !head.contains('/')
            } else {
                head.split(',').next() == Some(*shown)
            }
        };
        if SHOWN.iter().any(is_shown) {
            println!("  {label}: {}", display::line(&value));
        }
    }
}

/// Graphs to look at: from those of the middle of all sizes.
fn examples(graphs: &[CallGraph], count: usize) -> Vec<&CallGraph> {
    let mut sorted: Vec<&CallGraph> = graphs.iter().collect();
    sorted.sort_by_key(|graph| graph.num_edges());
    let count = count.min(sorted.len());
    (1..=count).map(|place| sorted[place * sorted.len() / (count + 1)]).collect()
}

/// Characters of a waterfall's time axis.
const AXIS: usize = 40;
/// Calls of a graph that are drawn.
const CALLS: usize = 30;

/// A graph with a line per call: whom it reaches, and when.
fn waterfall(graph: &CallGraph) -> String {
    let mut text = format!(
        "{}: {} calls, depth {}, {} ms\n",
        display::name(graph.service()),
        graph.num_edges(),
        graph.depth(),
        graph.latency()
    );
    let shown = &graph.calls()[..graph.calls().len().min(CALLS)];
    let (from, to) = (graph.root().start, graph.root().finish);
    let span = f64::from((to - from).max(1));
    let label = |depth: u32, name: &str| {
        let name: String = display::label(name).chars().take(44).collect();
        format!("{}{name}", "  ".repeat(depth as usize - 1))
    };
    let labels: Vec<String> =
        shown.iter().map(|call| label(call.depth, &call.destination)).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    for (call, label) in shown.iter().zip(&labels) {
        let place = |time: u32| (f64::from(time - from) / span * AXIS as f64) as usize;
        let (start, end) = (place(call.start).min(AXIS - 1), place(call.finish));
        let bar = "█".repeat((end - start.min(end)).max(1));
        let pad = width - label.chars().count();
        text += &format!(
            "  {label}{} {:4} {}{bar}{} {}–{} ms\n",
            " ".repeat(pad),
            call.kind,
            " ".repeat(start),
            " ".repeat(AXIS.saturating_sub(start + bar.chars().count())),
            call.start,
            call.finish,
        );
    }
    if graph.calls().len() > CALLS {
        text += &format!("  and {} more calls\n", graph.calls().len() - CALLS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    #[test]
    fn a_waterfall_is_readable() {
        let lines = waterfall(&paper_example());
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "S_000034483: 7 calls, depth 3, 8 ms");
        let bar = |length: usize| "█".repeat(length);
        assert_eq!(lines[1], format!("  MS_63670     http {} 0–8 ms", bar(40)));
        assert_eq!(lines[2], format!("    MS_63670   rpc  {}{} 0–3 ms", bar(15), " ".repeat(25)));
        assert_eq!(
            lines[4],
            format!("      MS_37691 mc   {}{}{} 1–2 ms", " ".repeat(5), bar(5), " ".repeat(30))
        );
        assert_eq!(lines.len(), 8);
    }
}
