//! What the build knows: commit, lock file, numeric crates and embedded manifests.

include!(concat!(env!("OUT_DIR"), "/build_facts.rs"));
