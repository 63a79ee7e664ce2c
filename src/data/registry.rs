//! All data sources.

use serde::{Deserialize, Serialize};

use super::VERSION;
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

            fn version(&self) -> Version {
                match self { $(Self::$kind(_) => super::$module::$kind::version(),)+ }
            }
        }

        /// Versions of all sources, and whether they make graphs.
        fn all() -> Vec<(Version, bool)> {
            vec![$((super::$module::$kind::version(), super::$module::$kind::makes_graphs()),)+]
        }
    };
}

registry! {
    "call-table" => super::call_table::CallTable, "complete graphs, one row per call";
    "alibaba-v2022" => super::raw::AlibabaV2022, "raw rows of Alibaba's v2022 table `CallGraph`";
    "alibaba-v2021" => super::raw::AlibabaV2021, "raw rows of Alibaba's v2021 table `MSCallGraph`";
    "nezha" => super::nezha::Nezha, "tables of spans, with lists of injected faults";
    "weighted-structures" => super::structures::WeightedStructures, "distinct graphs with frequencies, without times";
    "simulator" => super::simulator::Simulator, "graphs of a simulated cloud";
}

impl SourceSpec {
    /// Versions of the code that makes a dataset of it.
    pub fn versions(&self) -> Vec<Version> {
        let mut versions = vec![VERSION, self.version()];
        if self.settings().times_from().is_some() {
            // Any source of measured graphs may lend its times.
            for (version, _) in all().into_iter().filter(|(_, makes_graphs)| !makes_graphs) {
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
        }
        versions
    }
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
        for (version, _) in all() {
            assert!(golden::path(version).is_file(), "{version}: see golden.rs");
        }
    }

    #[test]
    fn borrowed_times_are_an_input() {
        let spec =
            serde_json::json!({"kind": "weighted-structures", "path": "p", "times_from": "t"});
        let spec: SourceSpec = serde_json::from_value(spec).unwrap();
        let versions = spec.versions();
        for (version, makes_graphs) in all() {
            let own = version == spec.version();
            assert_eq!(versions.contains(&version), own || !makes_graphs, "{version}");
        }
    }
}
