//! Call tables: complete graphs, one row per call. Read as the source `call-table`, and written. Declared
//! attributes (number of edges, depth, latency) are ignored; the graph itself says what they are.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::Funnel;
use super::finish::{self, Losses, Reason};
use super::source::{Source, SourceInput, SourceOutput, SourceRequest};
use super::table::{BadValue, Row, Table, TableEntry, check_fields, milliseconds, shown};
use crate::error::UserError;
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Interner, Name};
use crate::version::Version;

/// Version of this source: how a table of calls is read.
pub const VERSION: Version = Version::new("source/call-table", 1);

const COLUMNS: [&str; 8] =
    ["graph_index", "service", "edge_id", "type", "source", "destination", "start_ms", "finish_ms"];

/// The header of a table that [`push`] writes the rows of.
pub const HEADER: &str = "graph_index,service,num_edges,depth,latency,edge_id,type,source,destination,start_ms,finish_ms\n";

/// Adds the rows of a graph to `text`.
///
/// # Errors
/// A name that no table without quotes can hold.
pub fn push(text: &mut Vec<u8>, index: u64, graph: &CallGraph) -> Result<(), UserError> {
    check_fields("call table", graph)?;
    let (service, edges, depth) = (graph.service(), graph.num_edges(), graph.depth());
    let attributes = format!("{index},{service},{edges},{depth},{}", graph.latency());
    for CallRow { edge_id, source, destination, kind, start, finish } in graph.rows() {
        // Writing to memory does not fail.
        let _ =
            writeln!(text, "{attributes},{edge_id},{kind},{source},{destination},{start},{finish}");
    }
    Ok(())
}

/// Keys of `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallTable {
    /// A file, or a folder of `.csv` and `.csv.gz`.
    path: PathBuf,
}

impl Source for CallTable {
    fn version() -> Version {
        VERSION
    }

    fn inputs(&self) -> Vec<SourceInput<'_>> {
        vec![SourceInput { path: &self.path, extensions: &["csv"] }]
    }

    fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
        let (graphs, funnel, complete) = read(&request.files[0], request.skip_bad_rows)?;
        let complete = Some(complete);
        Ok(SourceOutput { graphs, funnel, complete, ..SourceOutput::default() })
    }
}

/// Graphs, what became of the rest, and how many of all graphs are whole.
type Parts = (Vec<CallGraph>, Funnel, (u64, u64));

/// Reads the graphs of `files`, in the order of their fingerprints: neither the order of rows and files nor
/// the indexes that tell graphs apart make a difference.
fn read(files: &[PathBuf], skip_bad_rows: bool) -> Result<Parts> {
    let mut names = Interner::default();
    let mut groups: IndexMap<(usize, String), (Name, Vec<CallRow>)> = IndexMap::new();
    let mut incomplete: HashSet<(usize, String)> = HashSet::new();
    let (mut rows, mut bad) = (0, 0);
    for (file, path) in files.iter().enumerate() {
        let counts = Table::open(path, &COLUMNS)?.for_each(skip_bad_rows, 0, |entry| {
            let row = match entry {
                TableEntry::Row(row) => row,
                TableEntry::Incomplete(index) => {
                    incomplete.insert((file, index.to_owned()));
                    return Ok(());
                }
            };
            let (service, call) = call(&row, &mut names)?;
            let group = groups.entry((file, row.text(0).to_owned()));
            let (first_service, calls) = group.or_insert_with(|| (service.clone(), Vec::new()));
            if *first_service != service {
                let message = format!(
                    "`{}`, but earlier rows of graph {} have `{}`",
                    shown(&service),
                    shown(row.text(0)),
                    shown(first_service)
                );
                return Err(BadValue::new("service", message));
            }
            calls.push(call);
            Ok(())
        })?;
        rows += counts.0;
        bad += counts.1;
    }
    let mut funnel = Funnel::default();
    let traces = groups.len() as u64;
    funnel.push("row of the table", rows, None);
    if skip_bad_rows {
        funnel.push("can be read", rows - bad, Some(traces));
    }
    let mut losses = Losses::default();
    let mut graphs = Vec::with_capacity(groups.len());
    for (place, (service, calls)) in groups {
        if incomplete.contains(&place) {
            losses.add(Reason::BadRow, calls.len() as u64);
            continue;
        }
        match finish::judge(service, &calls) {
            Ok(graph) => graphs.push(graph),
            Err(reason) => losses.add(reason, calls.len() as u64),
        }
    }
    let mut graphs = finish::distinct(graphs, &mut losses);
    graphs.sort_by_cached_key(|graph| finish::fingerprint(0, graph));
    losses.push_to(&mut funnel, rows - bad, traces);
    Ok((graphs, funnel, (traces - losses.gaps(), traces)))
}

fn call(row: &Row<'_>, names: &mut Interner) -> Result<(Name, CallRow), BadValue> {
    let mut name = |column: usize| match row.text(column) {
        "" => Err(BadValue::new(COLUMNS[column], "has no value")),
        text => Ok(names.name(text)),
    };
    let (service, source, destination) = (name(1)?, name(4)?, name(5)?);
    if row.text(0).is_empty() {
        return Err(BadValue::new(COLUMNS[0], "has no value"));
    }
    let edge_id: EdgeId = row.text(2).parse().map_err(|()| {
        let message = format!("`{}` is not a path such as 0.1.2", shown(row.text(2)));
        BadValue::new(COLUMNS[2], message)
    })?;
    let kind: CallType = row.text(3).parse().map_err(|()| {
        let message = format!("`{}` is none of http, rpc, mc, db, mq", shown(row.text(3)));
        BadValue::new(COLUMNS[3], message)
    })?;
    let start = milliseconds(COLUMNS[6], row.text(6))?;
    let finish = milliseconds(COLUMNS[7], row.text(7))?;
    Ok((service, CallRow { edge_id, source, destination, kind, start, finish }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::data::golden;
    use crate::testing::{any_graph, paper_example};

    const HEADER: &str =
        "graph_index,service,num_edges,edge_id,type,source,destination,start_ms,finish_ms\n";

    fn read_text(rows: &str, skip: bool) -> Result<(Vec<CallGraph>, Funnel)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(HEADER.as_bytes()).unwrap();
        file.write_all(rows.as_bytes()).unwrap();
        read(&[file.path().to_owned()], skip).map(|(graphs, funnel, _)| (graphs, funnel))
    }

    #[test]
    fn golden() {
        let rows = "7,S_1,2,0,http,USER,A,0,8\n7,S_1,2,0.1,mc,A,B,1,2\n\
                    8,S_2,1,0,http,USER,A,0,3\n9,S_2,,0.1,rpc,A,B,1,2\n";
        golden::check(
            VERSION,
            "[source]\nkind = \"call-table\"\npath = \"calls.csv\"\n",
            &[("calls.csv", &format!("{HEADER}{rows}"))],
        );
    }

    fn message(rows: &str) -> String {
        let error = read_text(rows, false).unwrap_err().to_string();
        error.split_once(": ").unwrap().1.to_owned()
    }

    #[test]
    fn graphs_are_built_and_losses_counted() {
        let rows = "7,S_1,9,0,http,USER,A,0,8\n7,S_1,9,0.1,rpc,A,B,1,2\n\
                    8,S_1,,0,http,USER,A,0,8\n8,S_1,,0.1,rpc,A,B,1,2\n\
                    9,S_2,,0.1,rpc,A,B,1,2\n";
        let (graphs, funnel) = read_text(rows, false).unwrap();
        assert_eq!(graphs.len(), 1);
        assert_eq!((graphs[0].num_edges(), graphs[0].latency()), (2, 8));
        let steps: Vec<(&str, u64, Option<u64>)> =
            funnel.0.iter().map(|step| (step.step.as_str(), step.rows, step.traces)).collect();
        assert_eq!(
            steps,
            [
                ("row of the table", 5, None),
                ("valid: not no-root", 4, Some(2)),
                ("depth is at most 15", 4, Some(2)),
                ("differs from all other graphs", 2, Some(1)),
            ]
        );
    }

    #[test]
    fn bad_values_are_told_with_line_column_and_value() {
        let remedy = crate::data::lines::SKIP_REMEDY;
        let good = "1,S,,0,http,USER,A,0,8\n";
        let cases = [
            ("1,S,,0,http,USER,A,-3,8\n", "line 3, column start_ms: `-3` is negative"),
            ("1,S,,0,http,USER,A,0,x\n", "line 3, column finish_ms: `x` is not a number"),
            ("1,S,,0,http,USER,A,0,\n", "line 3, column finish_ms: has no value"),
            ("1,S,,0,http,USER,A,0\n", "line 3: 8 fields where the header has 9"),
            ("1,S,,0.a,rpc,A,A,0,8\n", "line 3, column edge_id: `0.a` is not a path such as 0.1.2"),
            (
                "1,S,,0,tcp,USER,A,0,8\n",
                "line 3, column type: `tcp` is none of http, rpc, mc, db, mq",
            ),
            ("1,S,,0,http,USER,,0,8\n", "line 3, column destination: has no value"),
            ("1,S,,0,http,USER,A,0,8,9\n", "line 3: 10 fields where the header has 9"),
            (
                "1,T,,0.1,rpc,A,A,0,8\n",
                "line 3, column service: `T`, but earlier rows of graph 1 have `S`",
            ),
        ];
        for (row, expected) in cases {
            let rows = format!("{good}{row}2,S,,0,http,USER,B,0,8\n");
            assert_eq!(message(&rows), format!("{expected}: {remedy}"));
            // The graph that the row belonged to is lost with it.
            let (graphs, funnel) = read_text(&rows, true).unwrap();
            assert_eq!(graphs.len(), 1);
            assert_eq!(graphs[0].calls()[0].destination.as_str(), "B");
            assert_eq!((funnel.0[0].rows, funnel.0[1].rows), (3, 2));
            assert_eq!(
                (funnel.0[2].step.as_str(), funnel.0[2].rows),
                ("all of its rows can be read", 1)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_is_read(graph in any_graph(12)) {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let mut text = super::HEADER.as_bytes().to_vec();
            push(&mut text, 3, &graph).unwrap();
            file.write_all(&text).unwrap();
            let graphs = read(&[file.path().to_owned()], false).unwrap().0;
            prop_assert!(graph.depth() > 15 || graphs == [graph]);
        }
    }

    #[test]
    fn names_that_no_table_can_hold_are_refused() {
        let mut rows = paper_example().rows();
        rows[6].destination = "a,b".into();
        let graph = CallGraph::from_rows("S_1".into(), &rows).unwrap();
        let error = push(&mut Vec::new(), 0, &graph).unwrap_err().to_string();
        assert!(error.contains("cannot hold the name `a,b`"), "{error}");
    }
}
