//! Graphs as clean rows of the table `CallGraph` of 2022.

use std::io::Write as _;

use super::row::{Flavour, known};
use crate::data::table::{check_fields, shown};
use crate::error::UserError;
use crate::graph::{CallGraph, CallRow, EdgeId, USER};

/// The table's columns.
pub const HEADER: &str =
    "timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt\n";

/// Adds the rows of a graph to `text`, as trace number `index`, whose time 0 is at `begin` (milliseconds).
///
/// The table has no time of a trace's own: where the root call starts later than at 0, all times come back
/// that much earlier.
///
/// # Errors
/// A name that would not be read back.
pub fn push(
    text: &mut Vec<u8>,
    index: u64,
    begin: u64,
    graph: &CallGraph,
) -> Result<(), UserError> {
    check_fields("table of Alibaba", graph)?;
    let service = written(graph.service())?;
    for CallRow { edge_id, source, destination, kind, start, finish } in graph.rows() {
        let (um, dm) = (written(&source)?, written(&destination)?);
        let (um_instance, dm_instance) = if edge_id == EdgeId::root() {
            (USER.to_owned(), format!("{dm}_POD_0"))
        } else {
            (format!("{um}_POD_0"), format!("{dm}_POD_0"))
        };
        let (timestamp, rt) = (begin + u64::from(start), finish - start);
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "{timestamp},T_{index},{service},{edge_id},{kind},{um},{um_instance},{dm}_{kind},{dm},{dm_instance},{rt}.0"
        );
    }
    Ok(())
}

/// A name as the table has it: numbers without the zeros that reading puts before them.
fn written(name: &str) -> Result<String, UserError> {
    let short = |prefix: &str| {
        let digits = name.strip_prefix(prefix)?.trim_start_matches('0');
        Some(format!("{prefix}{}", if digits.is_empty() { "0" } else { digits }))
    };
    let forms = [short("MS_"), short("S_"), Some(name.to_owned())];
    let read_back = |form: &String| known(form) && Flavour::V2022.name(form) == name;
    forms.into_iter().flatten().find(read_back).ok_or_else(|| {
        UserError::setting(format!(
            "the table of Alibaba cannot hold the name `{}`, which is read as another or as none: choose another \
             format, such as call-table",
            shown(name)
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::AlibabaV2022;
    use super::*;
    use crate::data::source::{Source, SourceRequest};
    use crate::testing::any_graph;

    #[test]
    fn names_are_read_back_or_refused() {
        for (name, expected) in [
            ("MS_00012", "MS_12"),
            ("MS_00000", "MS_0"),
            ("MS_123456", "MS_123456"),
            ("S_000000007", "S_7"),
            ("frontend", "frontend"),
            ("MS_x1", "MS_x1"),
            (USER, USER),
        ] {
            assert_eq!(written(name).unwrap(), expected, "{name}");
        }
        for name in ["MS_12", "UNKNOWN", "nan", "(?)", ""] {
            assert!(written(name).unwrap_err().to_string().contains("cannot hold"), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_is_read(graph in any_graph(12)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.csv");
            let mut text = HEADER.as_bytes().to_vec();
            push(&mut text, 7, 1_000, &graph).unwrap();
            std::fs::write(&path, text).unwrap();
            let source = AlibabaV2022 { path: path.clone() };
            let read = source.read(&SourceRequest::of(&path, dir.path())).unwrap().graphs;
            let begin = graph.root().start;
            let rows = graph.rows().into_iter().map(|row| CallRow {
                start: row.start - begin,
                finish: row.finish - begin,
                ..row
            });
            let rows: Vec<CallRow> = rows.collect();
            if graph.depth() <= 15 {
                let expected = CallGraph::from_rows(graph.service().clone(), &rows).unwrap();
                prop_assert_eq!(read, vec![expected]);
            }
        }
    }
}
