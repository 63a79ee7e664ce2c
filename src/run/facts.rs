//! What the build knows: commit, lock file, embedded manifests, and the code version of a stage.

include!(concat!(env!("OUT_DIR"), "/build_facts.rs"));

/// Hash of the source files whose path below `src` starts with one of `prefixes`, and of the
/// versions of the crates that compute. `skip` leaves out prefixes again.
pub fn code_version(prefixes: &[&str], skip: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(NUMERIC_CRATES.as_bytes());
    let starts_with = |path: &str, list: &[&str]| list.iter().any(|one| path.starts_with(one));
    for (path, hash) in SOURCES {
        if starts_with(path, prefixes) && !starts_with(path, skip) {
            hasher.update(path.as_bytes());
            hasher.update(hash.as_bytes());
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_version_covers_exactly_its_prefixes() {
        let graph = code_version(&["graph/"], &[]);
        assert_eq!(graph, code_version(&["graph/"], &["data/"]));
        assert_ne!(graph, code_version(&["graph/", "data/"], &[]));
        assert_ne!(graph, code_version(&["graph/"], &["graph/layer"]));
        assert!(SOURCES.iter().any(|(path, _)| *path == "graph/layer.rs"));
        for prefix in crate::generators::REGISTRY.iter().flat_map(|entry| entry.code) {
            assert!(SOURCES.iter().any(|(path, _)| path.starts_with(prefix)), "{prefix}");
        }
        assert!(NUMERIC_CRATES.contains("burn 0.22"));
    }
}
