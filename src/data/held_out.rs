//! Attributes of graphs that nobody trains on: what prompts with an exact number of edges and depth are
//! made of (the grid of figures 3 and 12). A dataset keeps them in a file of its own, so that every
//! generator is asked the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use polars::prelude::*;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::calls;
use super::table::{BadValue, Table, TableEntry, milliseconds, shown};
use crate::error::UserError;
use crate::graph::{CallGraph, Condition, Interner, Name};
use crate::random;

/// What a graph of one service can be asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeldOut {
    pub num_edges: u32,
    pub depth: u32,
    pub service: Name,
    /// Milliseconds.
    pub latency: u32,
}

impl HeldOut {
    pub fn of(graph: &CallGraph) -> Self {
        Self {
            num_edges: graph.num_edges(),
            depth: graph.depth(),
            service: graph.service().clone(),
            latency: graph.latency(),
        }
    }

    pub fn condition(&self) -> Condition {
        Condition {
            service: self.service.clone(),
            num_edges: Some(self.num_edges),
            depth: Some(self.depth),
            latency: Some(self.latency),
            requests: Vec::new(),
        }
    }
}

/// Where a dataset's held-out attributes come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutCard {
    pub graphs: u64,
    /// Different pairs of num_edges and depth among them.
    pub shapes: u64,
    /// Which graphs these are, as part of a sentence: "test graphs".
    pub from: String,
}

impl HeldOutCard {
    pub(super) fn new(held_out: &[HeldOut], from: String) -> Self {
        let shapes: BTreeSet<(u32, u32)> =
            held_out.iter().map(|held_out| (held_out.num_edges, held_out.depth)).collect();
        Self { graphs: held_out.len() as u64, shapes: shapes.len() as u64, from }
    }
}

/// Most rows of a file that are kept for one number of edges and depth: more than any experiment asks.
const PER_CELL: usize = 1_000;

const COLUMNS: [&str; 4] = ["service", "num_edges", "depth", "latency"];

/// The rows of a table of attributes whose service is among `services`. Of each number of edges and
/// depth at most [`PER_CELL`] are kept, drawn at random.
///
/// # Errors
/// A missing column or a value that cannot be read, unless `skip_bad_rows`.
pub fn of_file(
    path: &Path,
    services: &BTreeSet<&Name>,
    skip_bad_rows: bool,
    seed: u64,
) -> Result<Vec<HeldOut>> {
    let mut names = Interner::default();
    let mut cells: BTreeMap<(u32, u32), Vec<HeldOut>> = BTreeMap::new();
    Table::open(path, &COLUMNS)?.for_each(skip_bad_rows, 0, |entry| {
        let TableEntry::Row(row) = entry else { return Ok(()) };
        let held_out = HeldOut {
            num_edges: count("num_edges", row.text(1))?,
            depth: count("depth", row.text(2))?,
            service: names.name(row.text(0)),
            latency: milliseconds("latency", row.text(3))?,
        };
        if services.contains(&held_out.service) {
            cells.entry((held_out.num_edges, held_out.depth)).or_default().push(held_out);
        }
        Ok(())
    })?;
    let sampled = cells.into_iter().flat_map(|((edges, depth), mut rows)| {
        // The order of rows in the file must not matter.
        rows.sort();
        let path = [u64::from(edges), u64::from(depth)];
        rows.shuffle(&mut random::stream(seed, "held-out", &path));
        rows.truncate(PER_CELL);
        rows
    });
    Ok(sampled.collect())
}

fn count(column: &'static str, text: &str) -> Result<u32, BadValue> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        BadValue::new(column, format!("`{}` is not a whole number from 1", shown(text)))
    })
}

/// Writes them as Parquet.
pub(super) fn write(path: &Path, held_out: &[HeldOut]) -> Result<()> {
    let number = |name: &str, value: fn(&HeldOut) -> u32| -> Column {
        Column::new(name.into(), held_out.iter().map(value).collect::<Vec<u32>>())
    };
    let services = held_out.iter().map(|held_out| held_out.service.as_str());
    let [service, num_edges, depth, latency] = COLUMNS;
    let columns = vec![
        StringChunked::from_iter_values(service.into(), services).into_column(),
        number(num_edges, |held_out| held_out.num_edges),
        number(depth, |held_out| held_out.depth),
        number(latency, |held_out| held_out.latency),
    ];
    calls::write(path, &mut DataFrame::new(held_out.len(), columns)?)
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// A missing or damaged file.
pub(super) fn read(path: &Path) -> Result<Vec<HeldOut>> {
    let frame = calls::read(path)?;
    let wrong =
        |name: &str, message: String| UserError::input(path, format!("column {name}"), message);
    let column = |name: &str| frame.column(name).map_err(|_| wrong(name, "is missing".into()));
    let [service, num_edges, depth, latency] = COLUMNS;
    let services = column(service)?.str().map_err(|error| wrong(service, error.to_string()))?;
    let number = |name: &str| -> Result<&UInt32Chunked> {
        Ok(column(name)?.u32().map_err(|error| wrong(name, error.to_string()))?)
    };
    let (num_edges, depth, latency) = (number(num_edges)?, number(depth)?, number(latency)?);
    let mut names = Interner::default();
    let rows = services.iter().zip(num_edges.iter()).zip(depth.iter().zip(latency.iter()));
    rows.enumerate()
        .map(|(index, ((service, num_edges), (depth, latency)))| {
            let missing = || UserError::input(path, format!("row {}", index + 1), "has a gap");
            Ok(HeldOut {
                num_edges: num_edges.ok_or_else(missing)?,
                depth: depth.ok_or_else(missing)?,
                service: names.name(service.ok_or_else(missing)?),
                latency: latency.ok_or_else(missing)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn rows_of_known_services_are_kept_whatever_their_order() {
        let rows: Vec<String> = (0..3_000).map(|latency| format!("S_1,3,2,{latency}")).collect();
        let read = |rows: &[String]| {
            let text = format!("service,num_edges,depth,latency\nS_2,3,2,7\n{}\n", rows.join("\n"));
            of_file(file(&text).path(), &BTreeSet::from([&"S_1".into()]), false, 5).unwrap()
        };
        let found = read(&rows);
        assert_eq!(found.len(), PER_CELL);
        assert!(found.iter().all(|row| row.service.as_str() == "S_1" && row.num_edges == 3));
        let reversed: Vec<String> = rows.iter().rev().cloned().collect();
        assert_eq!(read(&reversed), found);
    }

    #[test]
    fn a_bad_value_is_named() {
        let error = |row: &str| {
            let file = file(&format!("depth,service,num_edges,latency\n{row}\n"));
            let read = of_file(file.path(), &BTreeSet::new(), false, 0);
            read.unwrap_err().to_string().replace(&file.path().display().to_string(), "FILE")
        };
        assert!(error("2,S_1,0,5").contains("line 2, column num_edges: `0` is not a whole number"));
        assert!(error("2,S_1,3,-5").contains("column latency: `-5` is negative"));
        assert!(error("2,S_1,3").contains("3 fields where the header has 4"));
    }

    #[test]
    fn a_dataset_does_without_its_prompts_but_says_so() {
        use crate::data::{BuildOptions, DatasetManifest, build};

        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let head = "graph_index,service,edge_id,type,source,destination,start_ms,finish_ms\n";
        let graphs: String = (0..8).map(|n| format!("{n},S_1,0,http,USER,A,0,{n}\n")).collect();
        write("calls.csv", &(head.to_owned() + &graphs));
        let text = "name = \"a\"\nprompts = \"prompts.csv\"\n[source]\nkind = \"call-table\"\n\
                    path = \"calls.csv\"\n[split]\ntest_share = 0.25\n";
        let folder = Some(dir.path().to_owned());
        let manifest = DatasetManifest::parse(Path::new("a.toml"), text, folder).unwrap();
        let built = || {
            let inputs = manifest.inputs(None).unwrap().len();
            (inputs, build(&manifest, &BuildOptions::new(dir.path())).unwrap())
        };
        let (inputs, without) = built();
        let test: Vec<HeldOut> = without.test().into_iter().map(HeldOut::of).collect();
        assert_eq!((inputs, without.held_out()), (1, &test[..]));
        assert_eq!(without.card.held_out.from, "test graphs (prompts.csv was not there)");
        write("prompts.csv", "service,num_edges,depth,latency\nS_1,4,2,9\nS_2,4,2,9\n");
        let (inputs, with) = built();
        let more = HeldOut { num_edges: 4, depth: 2, service: "S_1".into(), latency: 9 };
        assert_eq!((inputs, with.held_out()), (2, &[&test[..], &[more]].concat()[..]));
        assert_eq!(
            with.card.held_out.from,
            "test graphs and graphs of the same services in prompts.csv"
        );
        with.clone().save(dir.path()).unwrap();
        assert_eq!(crate::data::Dataset::load(dir.path()).unwrap().held_out(), with.held_out());
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held-out.parquet");
        for rows in [Vec::new(), vec![HeldOut::of(&crate::testing::paper_example()); 3]] {
            write(&path, &rows).unwrap();
            assert_eq!(read(&path).unwrap(), rows);
        }
    }
}
