//! Sources `otlp`, `jaeger` and `zipkin`: files of spans as tracing systems write them.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::collect::{Assembly, Traces};
use super::read::{ReadOptions, read};
use super::reading::{Keep, Read};
use super::tree::Policy;
use super::writer::SpanFormat;
use crate::data::lines;
use crate::data::source::{Source, SourceInput, SourceOutput, SourceRequest};
use crate::graph::Interner;
use crate::version::Version;

/// Makes a source of each format: its settings, and how its files are read.
macro_rules! sources {
    ($($(#[$doc:meta])* $name:ident: $version:literal, $number:literal, $extensions:expr, $format:expr;)+) => {$(
        $(#[$doc])*
        ///
        /// Keys of `[source]`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// A file, or a folder of files, plain or gzip.
            path: PathBuf,
            /// What becomes of spans, where more than one answer is right.
            #[serde(default)]
            policy: Policy,
        }

        impl Source for $name {
            fn version() -> Version {
                Version::new($version, $number)
            }

            fn inputs(&self) -> Vec<SourceInput<'_>> {
                vec![SourceInput { path: &self.path, extensions: $extensions }]
            }

            fn read(&self, request: &SourceRequest<'_>) -> Result<SourceOutput> {
                output(request, &self.policy, $format)
            }
        }
    )+};
}

sources! {
    /// OpenTelemetry's export requests, in JSON or protobuf.
    Otlp: "source/otlp", 1, &["json", "jsonl", "pb", "binpb"], otlp_format;
    /// Jaeger's JSON.
    Jaeger: "source/jaeger", 1, &["json"], |_| Ok(SpanFormat::Jaeger);
    /// Zipkin's JSON, version 2.
    Zipkin: "source/zipkin", 1, &["json"], |_| Ok(SpanFormat::Zipkin);
}

fn output(
    request: &SourceRequest<'_>,
    policy: &Policy,
    format: fn(&Path) -> Result<SpanFormat>,
) -> Result<SourceOutput> {
    let mut names = Interner::default();
    let mut traces = Traces::default();
    let skip_bad = request.skip_bad_rows;
    for path in &request.files[0] {
        let options = ReadOptions { format: format(path)?, keep: Keep::Policy, skip_bad };
        let counts = read(path, options, &mut names, &mut |entry| match entry {
            Read::Span(span) => traces.add(span.trace, span),
            Read::Incomplete(trace) => traces.lose(trace),
        })?;
        traces.counts.add(counts);
    }
    let assembly = Assembly {
        policy,
        zero_is_a_time: false,
        row: "span of the files",
        skip_bad,
        is_faulty: &|_| false,
    };
    Ok(traces.into_output(&assembly, &mut names).0)
}

/// Which of OTLP's two encodings a file has.
fn otlp_format(path: &Path) -> Result<SpanFormat> {
    let mut reader = lines::open(path)?;
    let head = reader.fill_buf().map_err(|error| lines::broken(path, 1, &error))?;
    Ok(if is_text(head) { SpanFormat::OtlpJson } else { SpanFormat::OtlpProto })
}

/// Whether the beginning of a file is text: none of its characters is one of control but for spaces. What a
/// request in protobuf begins with holds one, the tag of its second field.
pub fn is_text(head: &[u8]) -> bool {
    head.iter().take(512).all(|byte| *byte >= b' ' || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::golden;
    use crate::data::spans::testing::{START, written};
    use crate::data::spans::{TraceAddress, spans};
    use crate::testing::paper_example;

    fn file(format: SpanFormat) -> String {
        let address = |index| TraceAddress { seed: 0, index, start: START };
        let mut traces =
            vec![spans(&paper_example(), address(0)), spans(&paper_example(), address(1))];
        // The second lacks a caller's side, and with it a call.
        traces[1].retain(|span| span.operation.as_str() != "MS_53745" || !span.kind.is_outgoing());
        String::from_utf8(written(format, &traces)).expect("text")
    }

    #[test]
    fn golden_of_otlp() {
        let source = "[source]\nkind = \"otlp\"\npath = \"spans\"\n[source.policy]\nfragments = \"largest\"\n";
        let file = file(SpanFormat::OtlpJson);
        golden::check(
            Otlp::version(),
            &source.replace("spans", "spans.jsonl"),
            &[("spans.jsonl", &file)],
        );
    }

    #[test]
    fn golden_of_jaeger() {
        let source = "[source]\nkind = \"jaeger\"\npath = \"spans.json\"\n";
        golden::check(Jaeger::version(), source, &[("spans.json", &file(SpanFormat::Jaeger))]);
    }

    #[test]
    fn golden_of_zipkin() {
        let source = "[source]\nkind = \"zipkin\"\npath = \"spans.json\"\n";
        golden::check(Zipkin::version(), source, &[("spans.json", &file(SpanFormat::Zipkin))]);
    }

    #[test]
    fn encodings_of_otlp_are_told_apart_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let address = TraceAddress { seed: 0, index: 0, start: START };
        let traces = [spans(&paper_example(), address)];
        let mut graphs = Vec::new();
        for format in [SpanFormat::OtlpJson, SpanFormat::OtlpProto] {
            let path = dir.path().join("spans");
            std::fs::write(&path, written(format, &traces)).unwrap();
            let source = Otlp { path: path.clone(), policy: Policy::default() };
            graphs.push(source.read(&SourceRequest::of(&path, dir.path())).unwrap().graphs);
        }
        assert_eq!(graphs, [[paper_example()], [paper_example()]]);
    }
}
