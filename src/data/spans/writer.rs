//! Traces of spans as a file of one of the formats.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::span::Span;
use super::{jaeger, otlp_json, otlp_proto, zipkin};

/// A format of spans that is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanFormat {
    /// OpenTelemetry's requests in JSON, one per line when written.
    OtlpJson,
    /// OpenTelemetry's requests in protobuf.
    OtlpProto,
    /// Jaeger's JSON.
    Jaeger,
    /// Zipkin's JSON, version 2.
    Zipkin,
}

impl SpanFormat {
    pub const ALL: [SpanFormat; 4] = [Self::OtlpJson, Self::OtlpProto, Self::Jaeger, Self::Zipkin];

    /// As in manifests and flags.
    pub fn id(self) -> &'static str {
        match self {
            Self::OtlpJson => "otlp-json",
            Self::OtlpProto => "otlp-proto",
            Self::Jaeger => "jaeger",
            Self::Zipkin => "zipkin",
        }
    }

    /// How names of its files end, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::OtlpJson => "jsonl",
            Self::OtlpProto => "pb",
            Self::Jaeger | Self::Zipkin => "json",
        }
    }
}

/// What stands in an answer of Jaeger's API besides the data: some readers want all of its keys.
const JAEGER_END: &str = "\n],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}\n";
const JAEGER_EMPTY: &str = "{\"data\":[],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}\n";

/// Writes a file trace by trace.
pub struct SpanWriter<W: Write> {
    format: SpanFormat,
    out: W,
    is_first: bool,
}

impl<W: Write> SpanWriter<W> {
    /// Nothing is written before the first trace or [`Self::finish`].
    pub fn new(format: SpanFormat, out: W) -> Self {
        Self { format, out, is_first: true }
    }

    /// Writes the spans of one trace.
    ///
    /// # Errors
    /// What `out` refuses.
    pub fn trace(&mut self, spans: &[Span]) -> io::Result<()> {
        let bytes = match self.format {
            SpanFormat::OtlpJson => otlp_json::request(spans),
            SpanFormat::OtlpProto => otlp_proto::request(spans),
            SpanFormat::Jaeger => jaeger::trace(spans),
            SpanFormat::Zipkin => zipkin::elements(spans),
        };
        // A trace of no spans is no element of a list.
        if bytes.is_empty() {
            return Ok(());
        }
        let before: &[u8] = match (self.format, self.is_first) {
            (SpanFormat::OtlpJson | SpanFormat::OtlpProto, _) => b"",
            (SpanFormat::Jaeger, true) => b"{\"data\":[\n",
            (SpanFormat::Zipkin, true) => b"[\n",
            (SpanFormat::Jaeger | SpanFormat::Zipkin, false) => b",\n",
        };
        self.out.write_all(before)?;
        self.is_first = false;
        self.out.write_all(&bytes)?;
        if self.format == SpanFormat::OtlpJson {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Ends the file, which is one of the format also without a trace.
    ///
    /// # Errors
    /// What `out` refuses.
    pub fn finish(mut self) -> io::Result<W> {
        let end: &[u8] = match (self.format, self.is_first) {
            (SpanFormat::OtlpJson | SpanFormat::OtlpProto, _) => b"",
            (SpanFormat::Jaeger, true) => JAEGER_EMPTY.as_bytes(),
            (SpanFormat::Jaeger, false) => JAEGER_END.as_bytes(),
            (SpanFormat::Zipkin, true) => b"[]\n",
            (SpanFormat::Zipkin, false) => b"\n]\n",
        };
        self.out.write_all(end)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::spans::{TraceAddress, spans};
    use crate::testing::paper_example;

    #[test]
    fn files_are_whole_with_any_number_of_traces() {
        for format in SpanFormat::ALL {
            for traces in 0..3 {
                let mut writer = SpanWriter::new(format, Vec::new());
                for index in 0..traces {
                    let address = TraceAddress { seed: 0, index, start: 1_700_000_000_000_000_000 };
                    writer.trace(&spans(&paper_example(), address)).unwrap();
                }
                let bytes = writer.finish().unwrap();
                let text = String::from_utf8_lossy(&bytes);
                let count = |value: &serde_json::Value| value.as_array().map(Vec::len);
                match format {
                    SpanFormat::OtlpJson => {
                        assert_eq!(text.lines().count(), traces as usize);
                        for line in text.lines() {
                            let value: serde_json::Value = serde_json::from_str(line).unwrap();
                            assert_eq!(count(&value["resourceSpans"]), Some(3));
                        }
                    }
                    SpanFormat::OtlpProto => assert_eq!(bytes.is_empty(), traces == 0),
                    SpanFormat::Jaeger => {
                        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                        assert_eq!(count(&value["data"]), Some(traces as usize));
                    }
                    SpanFormat::Zipkin => {
                        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                        assert_eq!(count(&value), Some(10 * traces as usize));
                    }
                }
            }
        }
    }
}
