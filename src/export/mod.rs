//! Graphs as files that other programs read, written one graph after the other.
//!
//! A format that is also a source is written by the module of `data` that reads it; what only leaves is
//! here.

mod dot;
mod texts;
mod waterfall;

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;

use crate::data::spans::{self, SpanFormat, SpanWriter, TraceAddress};
use crate::data::{call_table, calls, raw};
use crate::error::UserError;
use crate::graph::CallGraph;

/// How graphs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The table of calls in Parquet that datasets and generated graphs are kept in
    Parquet,
    /// CSV, one row per call, as the source `call-table` reads it
    CallTable,
    /// Rows of Alibaba's table CallGraph of 2022, without defects
    AlibabaV2022,
    /// OpenTelemetry's requests in JSON, a line for each trace
    OtlpJson,
    /// OpenTelemetry's requests in protobuf
    OtlpProto,
    /// Jaeger's JSON, as its page reads it
    Jaeger,
    /// Zipkin's JSON, version 2
    Zipkin,
    /// The paper's recursive texts: JSON lines with prompt and completion, one for each layer
    RecursiveTexts,
    /// The paper's tabular texts: JSON lines with prompt and completion, one for each graph
    TabularTexts,
    /// A drawing for Graphviz
    Dot,
    /// A page with the waterfall of each trace, which needs nothing else to be seen
    Html,
}

impl Format {
    /// Whether a terminal can show it.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::OtlpProto)
    }

    /// The format of spans that it is.
    fn of_spans(self) -> Option<SpanFormat> {
        match self {
            Self::OtlpJson => Some(SpanFormat::OtlpJson),
            Self::OtlpProto => Some(SpanFormat::OtlpProto),
            Self::Jaeger => Some(SpanFormat::Jaeger),
            Self::Zipkin => Some(SpanFormat::Zipkin),
            _ => None,
        }
    }

    /// # Errors
    /// More graphs than one file of the format holds.
    pub fn check(self, graphs: u64) -> Result<(), UserError> {
        let most = match self {
            Self::Html => waterfall::MAX_GRAPHS,
            _ => u32::MAX.into(),
        };
        if graphs <= most {
            return Ok(());
        }
        Err(UserError::setting(format!(
            "{graphs} graphs: one file of this format holds {most}; ask for fewer, or choose another format"
        )))
    }
}

/// What a file's content depends on besides the graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of whatever is drawn: the order of attributes in texts, ids.
    pub seed: u64,
    /// When the first trace begins, nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds from the begin of a trace to that of the next.
    pub every: u64,
}

impl Settings {
    /// When trace `number` begins, nanoseconds since 1970.
    fn begin(&self, number: u32) -> u64 {
        self.start.saturating_add(self.every.saturating_mul(number.into()))
    }
}

/// Graphs of a row group in Parquet.
const GRAPHS_PER_GROUP: usize = 1_024;

/// Writes graphs to `W`.
pub struct Exporter<W: Write + Send> {
    format: Format,
    settings: Settings,
    written: u64,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    /// Where the text goes, and what has not gone yet.
    Text(W, Vec<u8>),
    Table(Box<calls::Appender<W>>, Vec<calls::Group>),
    Spans(SpanWriter<W>),
}

impl<W: Write + Send> Exporter<W> {
    /// # Errors
    /// What `out` fails with.
    pub fn new(format: Format, settings: Settings, out: W) -> Result<Self> {
        let sink = match (format, format.of_spans()) {
            (_, Some(format)) => Sink::Spans(SpanWriter::new(format, out)),
            (Format::Parquet, _) => Sink::Table(Box::new(calls::Appender::new(out)?), Vec::new()),
            _ => {
                let head: &str = match format {
                    Format::CallTable => call_table::HEADER,
                    Format::AlibabaV2022 => raw::HEADER,
                    Format::Html => waterfall::HEAD,
                    _ => "",
                };
                Sink::Text(out, head.as_bytes().to_vec())
            }
        };
        Ok(Self { format, settings, written: 0, sink })
    }

    /// Writes a graph. Its number tells it apart from the others: numbers ascend, and each comes once.
    ///
    /// # Errors
    /// A graph that the format cannot hold, one too many, or what `out` fails with.
    pub fn write(&mut self, number: u32, graph: &CallGraph) -> Result<()> {
        let Self { format, settings, written, sink } = self;
        *written += 1;
        format.check(*written)?;
        match sink {
            Sink::Table(appender, groups) => {
                let (service, rows) = (graph.service().clone(), graph.rows());
                groups.push(calls::Group { graph: number, service, rows });
                if groups.len() == GRAPHS_PER_GROUP {
                    appender.push(groups)?;
                    groups.clear();
                }
            }
            Sink::Spans(writer) => {
                let (seed, index, start) = (settings.seed, number.into(), settings.begin(number));
                writer.trace(&spans::spans(graph, TraceAddress { seed, index, start }))?;
            }
            Sink::Text(out, text) => {
                match format {
                    Format::CallTable => call_table::push(text, number.into(), graph)?,
                    Format::AlibabaV2022 => {
                        let begin = settings.begin(number) / 1_000_000;
                        raw::push(text, number.into(), begin, graph)?;
                    }
                    Format::RecursiveTexts => {
                        texts::push_recursive(text, number, graph, settings.seed)?;
                    }
                    Format::TabularTexts => {
                        texts::push_tabular(text, number, graph, settings.seed)?;
                    }
                    Format::Dot => dot::push(text, number, graph),
                    Format::Html => waterfall::push(text, number, graph),
                    Format::Parquet
                    | Format::OtlpJson
                    | Format::OtlpProto
                    | Format::Jaeger
                    | Format::Zipkin => {}
                }
                out.write_all(text)?;
                text.clear();
            }
        }
        Ok(())
    }

    /// Writes what comes behind the last graph, and hands everything over.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn finish(self) -> Result<()> {
        match self.sink {
            Sink::Table(mut appender, groups) => {
                if !groups.is_empty() {
                    appender.push(&groups)?;
                }
                appender.finish()
            }
            Sink::Spans(writer) => Ok(writer.finish().map(drop)?),
            Sink::Text(mut out, mut text) => {
                if self.format == Format::Html {
                    text.extend_from_slice(waterfall::FOOT.as_bytes());
                }
                out.write_all(&text)?;
                Ok(out.flush()?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    const SETTINGS: Settings = Settings { seed: 0, start: 0, every: 1_000_000_000 };

    fn exported(format: Format, graphs: &[CallGraph]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut exporter = Exporter::new(format, SETTINGS, &mut bytes)?;
        for (number, graph) in (0..).zip(graphs) {
            exporter.write(number, graph)?;
        }
        exporter.finish()?;
        Ok(bytes)
    }

    #[test]
    fn formats_look_so() {
        for format in Format::value_variants().iter().filter(|format| format.is_text()) {
            let text = String::from_utf8(exported(*format, &[paper_example()]).unwrap()).unwrap();
            let name = format.to_possible_value().unwrap().get_name().to_owned();
            insta::assert_snapshot!(name, text);
        }
    }

    #[test]
    fn parquet_is_the_table_of_calls() {
        // More than one row group.
        let graphs = vec![paper_example(); GRAPHS_PER_GROUP + 3];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.parquet");
        std::fs::write(&path, exported(Format::Parquet, &graphs).unwrap()).unwrap();
        let groups = calls::from_frame(&path, &calls::read(&path).unwrap()).unwrap();
        assert_eq!(groups.len(), graphs.len());
        assert!(groups.iter().zip(0..).all(|(group, number)| group.graph == number));
        assert_eq!(groups[GRAPHS_PER_GROUP + 2].rows, graphs[0].rows());
        // No graph at all is a table, too.
        std::fs::write(&path, exported(Format::Parquet, &[]).unwrap()).unwrap();
        assert!(calls::from_frame(&path, &calls::read(&path).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_page_holds_so_many_graphs() {
        let graphs = vec![paper_example(); waterfall::MAX_GRAPHS as usize + 1];
        assert!(exported(Format::Html, &graphs[1..]).is_ok());
        let error = exported(Format::Html, &graphs).unwrap_err().to_string();
        assert!(error.contains("holds 100;"), "{error}");
    }
}
