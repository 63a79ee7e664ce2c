//! What the build knows: commit, lock file, embedded manifests, and the code version of a stage.

use std::collections::BTreeSet;

include!(concat!(env!("OUT_DIR"), "/build_facts.rs"));

/// Hash of what is below `src` with a path that starts with one of `prefixes`, and of the versions of
/// the crates that it computes or draws with. `skip` leaves out prefixes again.
pub fn code_version(prefixes: &[&str], skip: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for versions in crates_of(prefixes, skip) {
        hasher.update(versions.as_bytes());
        hasher.update(b"\n");
    }
    for (path, hash, _) in sources_of(prefixes, skip) {
        hasher.update(path.as_bytes());
        hasher.update(hash.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

type Source = (&'static str, &'static str, &'static [&'static str]);

fn sources_of(prefixes: &[&str], skip: &[&str]) -> impl Iterator<Item = &'static Source> {
    let starts_with = |path: &str, list: &[&str]| list.iter().any(|one| path.starts_with(one));
    SOURCES.iter().filter(move |(path, ..)| starts_with(path, prefixes) && !starts_with(path, skip))
}

/// Versions of the crates that these sources use.
fn crates_of(prefixes: &[&str], skip: &[&str]) -> Vec<&'static str> {
    let used: BTreeSet<&str> =
        sources_of(prefixes, skip).flat_map(|(_, _, crates)| *crates).copied().collect();
    let versions = CRATES.iter().filter(|(name, _)| used.contains(name));
    versions.map(|(_, versions)| *versions).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn a_code_version_covers_exactly_its_prefixes() {
        let graph = code_version(&["graph/"], &[]);
        assert_eq!(graph, code_version(&["graph/"], &["data/"]));
        assert_ne!(graph, code_version(&["graph/", "data/"], &[]));
        assert_ne!(graph, code_version(&["graph/"], &["graph/layer"]));
        assert!(SOURCES.iter().any(|(path, ..)| *path == "graph/layer.rs"));
        for prefix in crate::generators::REGISTRY.iter().flat_map(|entry| entry.code) {
            assert!(SOURCES.iter().any(|(path, ..)| path.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn a_code_version_covers_the_crates_that_its_sources_use() {
        let used = |prefixes: &[&str]| crates_of(prefixes, &[]).join(", ");
        let trained = used(&["generators/tvae/"]);
        for package in ["burn 0.22", "statrs 0.19", "nalgebra ", "rand 0.10"] {
            assert!(trained.contains(package), "{package}: {trained}");
        }
        assert!(!trained.contains("plotters"), "{trained}");
        let drawn = used(&["report/"]);
        for package in
            ["plotters 0.3", "plotters-svg", "ttf-parser", "dejavu", "png ", "statrs 0.19"]
        {
            assert!(drawn.contains(package), "{package}: {drawn}");
        }
        assert!(!drawn.contains("burn"), "{drawn}");
        assert!(used(&["data/"]).contains("polars 0.55"));
        assert_eq!(used(&["graph/layer.rs"]), "");
    }

    /// A new dependency must be told apart: can another version of it change a result?
    #[test]
    fn every_dependency_can_change_results_or_cannot() {
        const CANNOT: [&str; 17] = [
            "anyhow",
            "blake3",
            "clap",
            "flate2",
            "indexmap",
            "indicatif",
            "libc",
            "rayon",
            "serde",
            "serde_json",
            "signal-hook",
            "strsim",
            "tempfile",
            "thiserror",
            "toml",
            "ureq",
            // Belongs to `rand`.
            "rand_chacha",
        ];
        let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
        for name in manifest["dependencies"].as_table().unwrap().keys() {
            let can = CRATES.iter().any(|(known, _)| known == name);
            assert!(can != CANNOT.contains(&name.as_str()), "{name}");
        }
        for (name, versions) in CRATES {
            assert!(versions.contains(&format!("{name} ")), "{name}: {versions}");
        }
    }

    /// A stage depends on what its code compiles in as it does on the code.
    #[test]
    fn what_is_compiled_in_is_a_source() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        for (path, ..) in SOURCES.iter().filter(|(path, ..)| path.ends_with(".rs")) {
            let code = std::fs::read_to_string(src.join(path)).unwrap();
            let code = code.split("#[cfg(test)]").next().unwrap();
            let words = ["include_str!(", "include_bytes!("];
            let starts = words.iter().flat_map(|word| code.match_indices(word));
            for after in starts.map(|(at, word)| &code[at + word.len()..]) {
                // Macros that put a path together are in places of which no stage is made: manifests,
                // which are in keys as they are, and templates.
                match after.strip_prefix('"').and_then(|name| name.split('"').next()) {
                    Some(name) => found.push(PathBuf::from(path).with_file_name(name)),
                    None => {
                        assert!(["data/embedded.rs", "cli/baseline.rs"].contains(path), "{path}")
                    }
                }
            }
        }
        assert!(!found.is_empty());
        for path in found {
            let is_source = SOURCES.iter().any(|(source, ..)| Path::new(source) == path);
            assert!(is_source, "{} is in no code version", path.display());
        }
    }
}
