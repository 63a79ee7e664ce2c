//! What the build knows: commit, lock file, numeric crates and embedded manifests.

include!(concat!(env!("OUT_DIR"), "/build_facts.rs"));

/// Versions of the crates that stages compute, read and write with.
pub fn numeric_crates() -> impl Iterator<Item = &'static str> {
    CRATES.iter().filter(|(name, _)| !DRAWING.contains(name)).map(|(_, versions)| *versions)
}

/// Versions of all crates that can change a report, with or without bitmaps.
pub fn report_crates(bitmaps: bool) -> impl Iterator<Item = &'static str> {
    CRATES
        .iter()
        .filter(move |(name, _)| bitmaps || *name != "image")
        .map(|(_, versions)| *versions)
}

/// Crates that only draw.
const DRAWING: [&str; 3] = ["dejavu", "image", "plotters"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_depend_on_what_draws_and_other_stages_do_not() {
        let numeric: Vec<_> = numeric_crates().collect();
        let (all, vector): (Vec<_>, Vec<_>) =
            (report_crates(true).collect(), report_crates(false).collect());
        for package in ["burn 0.22", "statrs 0.19", "nalgebra ", "rand 0.10", "polars 0.55"] {
            assert!(numeric.join(", ").contains(package), "{package}: {numeric:?}");
        }
        assert!(!numeric.join(", ").contains("plotters"), "{numeric:?}");
        for package in ["plotters 0.3", "plotters-svg", "ttf-parser", "dejavu", "png "] {
            assert!(all.join(", ").contains(package), "{package}: {all:?}");
            assert_eq!(vector.join(", ").contains(package), package != "png ", "{vector:?}");
        }
    }

    /// A new dependency must be told apart: can another version of it change a result?
    #[test]
    fn every_dependency_can_change_results_or_cannot() {
        const CANNOT: [&str; 20] = [
            "anyhow",
            "base64",
            "blake3",
            "clap",
            "flate2",
            "indexmap",
            "indicatif",
            "libc",
            "prost",
            "rayon",
            "serde",
            "serde_json",
            "signal-hook",
            "strsim",
            "tempfile",
            "thiserror",
            "toml",
            "ureq",
            // Belong to `polars` and `rand`.
            "polars-io",
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
}
