//! All data sources.

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::version::Version;

/// Makes an enum of the sources: the `kind` in manifests, the settings, and what the source is.
macro_rules! registry {
    ($($id:literal => super::$module:ident::$kind:ident, $about:literal;)+) => {
        /// Where graphs come from (`[source]`, told apart by `kind`).
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum SourceSpec {
            $(#[doc = $about] #[serde(rename = $id)] $kind(super::$module::$kind),)+
        }

        impl SourceSpec {
            /// The `kind` of the source, as in manifests and cards.
            pub fn id(&self) -> &'static str {
                match self { $(Self::$kind(_) => $id,)+ }
            }

            pub(super) fn settings(&self) -> &dyn Source {
                match self { $(Self::$kind(settings) => settings,)+ }
            }

            /// Whether it makes graphs, as many as are asked for.
            pub(super) fn makes_graphs(&self) -> bool {
                match self { $(Self::$kind(_) => super::$module::$kind::makes_graphs(),)+ }
            }

            /// Version of the code that reads the source.
            pub fn version(&self) -> Version {
                match self { $(Self::$kind(_) => super::$module::$kind::version(),)+ }
            }
        }

        /// Versions of all sources.
        #[cfg(test)]
        fn all() -> Vec<Version> {
            vec![$(super::$module::$kind::version(),)+]
        }
    };
}

registry! {
    "call-table" => super::call_table::CallTable, "complete graphs, one row per call";
    "alibaba-v2022" => super::raw::AlibabaV2022, "raw rows of Alibaba's v2022 table `CallGraph`";
    "alibaba-v2021" => super::raw::AlibabaV2021, "raw rows of Alibaba's v2021 table `MSCallGraph`";
    "nezha" => super::nezha::Nezha, "tables of spans, with lists of injected faults";
    "otlp" => super::spans::Otlp, "spans of OpenTelemetry, in JSON or protobuf";
    "jaeger" => super::spans::Jaeger, "spans in Jaeger's JSON";
    "zipkin" => super::spans::Zipkin, "spans in Zipkin's JSON, version 2";
    "spans" => super::spans::SpanTable, "a table of spans whose columns the manifest names";
    "weighted-structures" => super::structures::WeightedStructures, "distinct graphs with frequencies, without times";
    "simulator" => super::simulator::Simulator, "graphs of a simulated cloud";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::golden;

    #[test]
    fn every_source_has_a_golden_test() {
        // Where golden files are being written, the other tests may not have written theirs yet.
        if golden::renews() {
            return;
        }
        for version in all() {
            assert!(golden::path(version).is_file(), "{version}: see golden.rs");
        }
    }
}
