//! Source `weighted-structures`: distinct call graphs with the number of traces that had each,
//! without times. Graphs are drawn by that number and unrolled into trees; times are drawn from
//! another dataset's response times.
//!
//! A structure merges calls: a node is a microservice (and interface), an edge's weight is how
//! often the trace made that call in all. Unrolling keeps these totals: a node that is reached
//! k times becomes k calls, and the calls that it makes are dealt out to them in turn. (In most
//! structures a repeated node makes fewer calls than it is reached times, so weights are totals of
//! the trace and not per visit.) A call that leads back to a node on its own path, or to itself,
//! is made and goes no further.

mod draw;
mod unroll;

use std::cmp::Reverse;
use std::path::PathBuf;

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Funnel;
use super::lines::{BadLine, Lines, SKIP_REMEDY};
use super::raw::Flavour;
use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use super::table::shown;
use crate::error::UserError;
use crate::graph::{CallGraph, Interner, Name};
use crate::random;
use crate::version::Version;
use draw::{Times, Weights};
use unroll::{Tree, Unusable, unroll};

/// Version of this source: how structures are drawn, unrolled and timed.
pub const VERSION: Version = Version::new("source/weighted-structures", 1);

/// Graphs drawn when neither the manifest nor the command line says how many.
const DEFAULT_DRAWN: u64 = 100_000;
/// Longest line, in bytes; the largest real structure has 40 thousand.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Structures with more calls are dropped: of the real ones 64, which 751 of 193.5 million traces
/// had.
pub const MAX_CALLS: u64 = 1000;

/// Keys of `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedStructures {
    /// A file, or a folder of `.jsonl` and `.jsonl.gz`.
    path: PathBuf,
    /// Dataset whose response times are used, by call type and depth.
    times_from: String,
    /// Seed of the structures and times that are drawn.
    #[serde(default)]
    seed: u64,
}

/// One line of the file. Other keys are ignored.
#[derive(Deserialize)]
struct Line {
    /// Group of services, and number of the structure among those of its service: where the
    /// structure stands, wherever its line does. Both may be missing.
    #[serde(default, rename = "type")]
    group: Value,
    #[serde(default)]
    graph: Value,
    service: String,
    /// Traces that had this graph.
    num: u64,
    /// Source, destination, type, number of calls.
    edges: Vec<(String, String, String, u64)>,
}

/// A structure that can be drawn.
struct Structure {
    service: Name,
    traces: u64,
    tree: Tree,
}

impl Source for WeightedStructures {
    fn version() -> Version {
        VERSION
    }

    fn makes_graphs() -> bool {
        true
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        vec![SourceInput { path: &self.path, extensions: &["jsonl"] }]
    }

    fn times_from(&self) -> Option<&str> {
        Some(&self.times_from)
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let times_from = &self.times_from;
        let (structures, mut funnel) = structures(&request.files[0], request.skip_bad_rows)?;
        let weights = Weights::new(structures.iter().map(|structure| structure.traces));
        let (Some(weights), Some(times)) = (weights, Times::new(&request.timed)) else {
            let empty =
                if structures.is_empty() { "no usable structure" } else { "no graph with times" };
            let message = format!("{empty} is left to draw from (times_from = \"{times_from}\")");
            return Err(UserError::setting(message).into());
        };
        let count = request.graphs.unwrap_or(DEFAULT_DRAWN);
        let step = request.progress.step("drawing", "graphs", count);
        let graphs = (0..count)
            .into_par_iter()
            .map(|index| {
                step.inc(1);
                let mut rng = random::stream(self.seed, "data.structures", &[index]);
                let structure = &structures[weights.draw(&mut rng)];
                times.graph(structure.service.clone(), &structure.tree, &mut rng)
            })
            .collect::<Result<Vec<CallGraph>>>()?;
        step.finish();
        funnel.push_graphs("call (rows) of graphs drawn by frequency", &graphs);
        let label =
            format!("times are drawn from {times_from} by call type and depth, not measured");
        Ok(SourceOutput { graphs, funnel, labels: vec![label], ..SourceOutput::default() })
    }
}

/// The structures that can be unrolled, in an order that does not depend on that of lines and files:
/// by group, service and number, then by traces and tree. Rows of the funnel are structures, traces
/// are traces.
fn structures(files: &[PathBuf], skip_bad_rows: bool) -> Result<(Vec<Structure>, Funnel)> {
    let mut names = Interner::default();
    let mut kept = Vec::new();
    let (mut lines, mut bad) = (0u64, 0u64);
    let mut read = (0u64, 0u64);
    let mut lost = [(0u64, 0u64); Unusable::ALL.len()];
    for path in files {
        let mut reader = Lines::open(path, MAX_LINE_BYTES)?;
        while let Some(text) = reader.next()? {
            let parsed = match text {
                Ok("") => continue,
                Ok(text) => parse(text),
                Err(BadLine(message)) => Err(message),
            };
            lines += 1;
            let line = match parsed {
                Ok(line) => line,
                Err(_) if skip_bad_rows => {
                    bad += 1;
                    continue;
                }
                Err(message) => {
                    let place = format!("line {}", reader.number());
                    let message = format!("{message}: {SKIP_REMEDY}");
                    return Err(UserError::input(path, place, message).into());
                }
            };
            read = (read.0 + 1, read.1.saturating_add(line.num));
            match unroll(&line.edges, &mut names) {
                Ok(tree) => {
                    let service = names.name(&service_name(&line.service));
                    let place = (rank(&line.group), line.service, rank(&line.graph));
                    kept.push((place, Structure { service, traces: line.num, tree }));
                }
                Err(reason) => {
                    let entry = &mut lost[reason as usize];
                    *entry = (entry.0 + 1, entry.1.saturating_add(line.num));
                }
            }
        }
    }
    if lines == 0
        && let Some(path) = files.first()
    {
        let message = "is empty: expected one JSON object per line";
        return Err(UserError::input(path, "line 1", message).into());
    }
    kept.sort_by(|(place, one), (other_place, other)| {
        (place, Reverse(one.traces), &one.tree).cmp(&(
            other_place,
            Reverse(other.traces),
            &other.tree,
        ))
    });
    let kept = kept.into_iter().map(|(_, structure)| structure).collect();
    let mut funnel = Funnel::default();
    if skip_bad_rows {
        funnel.push("structure (rows) and traces that had it", read.0 + bad, None);
        funnel.push("can be read", read.0, Some(read.1));
    } else {
        funnel.push("structure (rows) and traces that had it", read.0, Some(read.1));
    }
    let mut left = read;
    for reason in Unusable::ALL {
        let (structures, traces) = lost[reason as usize];
        left = (left.0 - structures, left.1.saturating_sub(traces));
        funnel.push(reason.step(), left.0, Some(left.1));
    }
    Ok((kept, funnel))
}

/// A value to sort by: numbers first, by size.
fn rank(value: &Value) -> (u64, String) {
    value.as_u64().map_or_else(|| (u64::MAX, value.to_string()), |number| (number, String::new()))
}

/// The service as other v2022 data names it: `Top_8_S_51794709` (the file marks its ten most
/// frequent services) is `S_051794709`.
fn service_name(raw: &str) -> String {
    let unranked = raw
        .strip_prefix("Top_")
        .and_then(|rest| rest.split_once('_'))
        .filter(|(rank, _)| rank.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(raw, |(_, service)| service);
    Flavour::V2022.name(unranked)
}

fn parse(text: &str) -> Result<Line, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if line.service.is_empty() {
        return Err("key service: has no value".into());
    }
    for (source, destination, _, weight) in &line.edges {
        if *weight == 0 {
            let edge = shown(&format!("{source} to {destination}"));
            return Err(format!("key edges: the edge from {edge} has weight `0`"));
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::data::golden;
    use crate::testing::paper_example;

    fn read_text(text: &str, count: u64, skip_bad_rows: bool) -> Result<SourceOutput> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let request = SourceRequest {
            graphs: Some(count),
            timed: vec![paper_example()],
            skip_bad_rows,
            ..SourceRequest::of(file.path(), Path::new(""))
        };
        let path = file.path().to_owned();
        WeightedStructures { path, times_from: "other".into(), seed: 3 }.read(&request)
    }

    const COMMON: &str = r#"{"service":"S_1","num":90,"edges":[["USER","A","http",1]]}"#;
    const RARE: &str =
        r#"{"service":"S_2","num":10,"edges":[["USER","A","http",1],["A","B","mc",3]]}"#;

    #[test]
    fn golden() {
        let calls = "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n";
        golden::check(
            VERSION,
            "graphs = 40\n[source]\nkind = \"weighted-structures\"\npath = \"s.jsonl\"\n\
             times_from = \"DIR/times.toml\"\n",
            &[
                ("s.jsonl", &format!("{COMMON}\n{RARE}\n")),
                (
                    "times.toml",
                    "name = \"times\"\n[source]\nkind = \"call-table\"\npath = \"calls.csv\"\n",
                ),
                (
                    "calls.csv",
                    &format!(
                        "{calls}7,S_1,0,http,USER,A,0,8\n7,S_1,0.1,mc,A,B,1,2\n8,S_2,0,http,USER,A,0,3\n"
                    ),
                ),
            ],
        );
    }

    #[test]
    fn graphs_are_drawn_by_frequency_and_labelled() {
        let output = read_text(&format!("{COMMON}\n{RARE}\n"), 2000, false).unwrap();
        let common = output.graphs.iter().filter(|graph| graph.num_edges() == 1).count();
        assert!((1740..=1860).contains(&common), "{common} of 2000 at 90 %");
        let label = "times are drawn from other by call type and depth, not measured";
        assert_eq!(output.labels, [label]);
        let last = output.funnel.0.last().unwrap();
        assert_eq!((last.rows, last.traces), ((2000 + 3 * (2000 - common)) as u64, Some(2000)));
    }

    #[test]
    fn services_are_named_as_elsewhere() {
        assert_eq!(service_name("Top_8_S_51794709"), "S_051794709");
        assert_eq!(service_name("S_100315674"), "S_100315674");
        assert_eq!(service_name("Top_shop"), "Top_shop");
    }

    #[test]
    fn unusable_structures_are_counted_with_their_traces() {
        let unknown =
            r#"{"service":"S_2","num":7,"edges":[["USER","A","http",1],["A","B","UNKNOWN",1]]}"#;
        let huge =
            r#"{"service":"S_2","num":5,"edges":[["USER","A","http",1],["A","B","mc",10616]]}"#;
        let funnel = read_text(&[COMMON, unknown, huge].join("\n"), 1, false).unwrap().funnel;
        let steps: Vec<(u64, Option<u64>)> =
            funnel.0.iter().map(|step| (step.rows, step.traces)).collect();
        assert_eq!(steps[0], (3, Some(102)));
        assert!(steps.contains(&(2, Some(95))));
        assert_eq!(steps[steps.len() - 2], (1, Some(90)));
    }

    #[test]
    fn bad_lines_are_told_or_counted() {
        let zero = r#"{"service":"S_2","num":7,"edges":[["USER","A","http",0]]}"#;
        let text = r#"{"service":"S_2","num":"many","edges":[]}"#;
        for (line, expected) in [(zero, "weight `0`"), (text, "invalid type"), ("{", "EOF")] {
            let both = format!("{COMMON}\n{line}\n");
            let error = read_text(&both, 1, false).err().unwrap().to_string();
            assert!(error.contains(": line 2: ") && error.contains(expected), "{error}");
            let funnel = read_text(&both, 1, true).unwrap().funnel;
            assert_eq!((funnel.0[0].rows, funnel.0[1].rows), (2, 1));
        }
        assert!(read_text("", 1, false).err().unwrap().to_string().contains("is empty"));
    }
}
