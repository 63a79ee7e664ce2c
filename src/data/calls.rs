//! Tables of calls in Parquet: one row per call, grouped by graph. Datasets and generated graphs
//! share this layout: `graph` (u32), `service`, `edge_id`, `source`, `destination`, `type` (text),
//! `start`, `finish` (u32, milliseconds).

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Result;
use polars::prelude::*;
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use polars_io::parquet::write::{BatchedWriter, ParquetCompression, ParquetWriter};

use crate::display;
use crate::error::UserError;
use crate::graph::{CallRow, Interner, Name};

/// The calls of one graph, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Number of the graph in its table, ascending; gaps stand for graphs without any call.
    pub graph: u32,
    pub service: Name,
    pub rows: Vec<CallRow>,
}

/// The table of `groups`.
pub fn to_frame(groups: &[Group]) -> Result<DataFrame> {
    let height: usize = groups.iter().map(|group| group.rows.len()).sum();
    let rows = || groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
    let text = |name: &str, value: fn(&Group, &CallRow) -> String| -> Column {
        let values = rows().map(|(group, row)| value(group, row));
        StringChunked::from_iter_values(name.into(), values).into_column()
    };
    let number = |name: &str, value: fn(&Group, &CallRow) -> u32| -> Column {
        let values: Vec<u32> = rows().map(|(group, row)| value(group, row)).collect();
        Column::new(name.into(), values)
    };
    Ok(DataFrame::new(
        height,
        vec![
            number("graph", |group, _| group.graph),
            text("service", |group, _| group.service.to_string()),
            text("edge_id", |_, row| row.edge_id.to_string()),
            text("source", |_, row| row.source.to_string()),
            text("destination", |_, row| row.destination.to_string()),
            text("type", |_, row| row.kind.to_string()),
            number("start", |_, row| row.start),
            number("finish", |_, row| row.finish),
        ],
    )?)
}

/// The groups of a table, in its order; rows of a group must be neighbours.
///
/// # Errors
/// A missing or mistyped column or an unreadable value, with `path`, row and column.
pub fn from_frame(path: &Path, frame: &DataFrame) -> Result<Vec<Group>> {
    let column = |name: &str| {
        frame
            .column(name)
            .map_err(|_| UserError::input(path, format!("column {name}"), "is missing"))
    };
    let text = |name: &str| -> Result<&StringChunked> {
        Ok(column(name)?
            .str()
            .map_err(|error| UserError::input(path, format!("column {name}"), error.to_string()))?)
    };
    let number = |name: &str| -> Result<&UInt32Chunked> {
        Ok(column(name)?
            .u32()
            .map_err(|error| UserError::input(path, format!("column {name}"), error.to_string()))?)
    };
    let (graph, start, finish) = (number("graph")?, number("start")?, number("finish")?);
    let (service, edge_id, source) = (text("service")?, text("edge_id")?, text("source")?);
    let (destination, kind) = (text("destination")?, text("type")?);
    let mut names = Interner::default();
    let mut groups: Vec<Group> = Vec::new();
    for index in 0..frame.height() {
        let missing = |name: &str| {
            UserError::input(path, format!("row {}, column {name}", index + 1), "has no value")
        };
        let unreadable = |name: &str, value: &str| {
            let place = format!("row {}, column {name}", index + 1);
            UserError::input(path, place, format!("cannot read `{}`", display::quoted(value)))
        };
        let text_at = |column: &StringChunked, name: &str| {
            column.get(index).map(str::to_owned).ok_or_else(|| missing(name))
        };
        let number_at =
            |column: &UInt32Chunked, name: &str| column.get(index).ok_or_else(|| missing(name));
        let group = number_at(graph, "graph")?;
        if groups.last().is_none_or(|last| last.graph != group) {
            let service = names.name(&text_at(service, "service")?);
            groups.push(Group { graph: group, service, rows: Vec::new() });
        }
        let id = text_at(edge_id, "edge_id")?;
        let kind_text = text_at(kind, "type")?;
        let row = CallRow {
            edge_id: id.parse().map_err(|()| unreadable("edge_id", &id))?,
            source: names.name(&text_at(source, "source")?),
            destination: names.name(&text_at(destination, "destination")?),
            kind: kind_text.parse().map_err(|()| unreadable("type", &kind_text))?,
            start: number_at(start, "start")?,
            finish: number_at(finish, "finish")?,
        };
        if let Some(last) = groups.last_mut() {
            last.rows.push(row);
        }
    }
    Ok(groups)
}

/// Writes a table as Parquet.
pub fn write(path: &Path, frame: &mut DataFrame) -> Result<()> {
    let file =
        File::create(path).map_err(|error| UserError::io(path, "cannot be written", error))?;
    ParquetWriter::new(file).with_compression(ParquetCompression::Snappy).finish(frame)?;
    Ok(())
}

/// Writes a table of calls as Parquet, some graphs at a time.
pub struct Appender<W: Write + Send>(BatchedWriter<W>);

impl<W: Write + Send> Appender<W> {
    /// # Errors
    /// What `out` fails with.
    pub fn new(out: W) -> Result<Self> {
        let writer = ParquetWriter::new(out).with_compression(ParquetCompression::Snappy);
        Ok(Self(writer.batched(to_frame(&[])?.schema())?))
    }

    /// Adds groups, whose numbers are greater than those before.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn push(&mut self, groups: &[Group]) -> Result<()> {
        Ok(self.0.write_batch(&to_frame(groups)?)?)
    }

    /// Writes the end of the file. `out` should keep nothing in a buffer, since it is dropped here.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn finish(&mut self) -> Result<()> {
        self.0.finish()?;
        Ok(())
    }
}

/// Whether a file begins as a Parquet table does.
pub fn is_parquet(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"PAR1"
}

/// Reads a Parquet table.
pub fn read(path: &Path) -> Result<DataFrame> {
    let file = File::open(path).map_err(|error| UserError::io(path, "cannot be read", error))?;
    Ok(ParquetReader::new(file)
        .finish()
        .map_err(|error| UserError::input(path, "Parquet", error.to_string()))?)
}
