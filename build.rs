//! Facts of the build that the runner needs: which commit it was, the versions of the crates that compute
//! or draw, and the manifests, so that the binary works outside the repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Only what goes into the binary can make it dirty; results and docs cannot, nor can baselines in
/// other languages, which are folders.
const INPUTS: [&str; 7] = [
    "src",
    "build.rs",
    "Cargo.toml",
    "Cargo.lock",
    "experiments",
    ":(glob)baselines/*.toml",
    "data",
];

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo"));
    for watched in INPUTS {
        let path = root.join(watched);
        // A path that does not exist would make cargo run this script every time.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let mut text = String::new();
    embed(&mut text, &root, "EXPERIMENTS", "experiments");
    embed(&mut text, &root, "BASELINES", "baselines");
    // Not the whole folder: what baselines in other languages install there is no part of the binary.
    // A new file is used from the working directory until the next build.
    for file in top_level(&root.join("baselines")) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let mut datasets = String::new();
    embed(&mut datasets, &root, "EMBEDDED", "data");
    std::fs::write(out.join("datasets.rs"), datasets).expect("OUT_DIR can be written");
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    crates(&mut text, &lock);
    let _ = writeln!(text, "pub const LOCK_HASH: &str = {:?};", fnv(lock.as_bytes()));
    commit(&mut text, &root);
    std::fs::write(out.join("build_facts.rs"), text).expect("OUT_DIR can be written");
}

/// `const NAME: &[(stem, content)]` of the TOML files of a folder.
fn embed(text: &mut String, root: &Path, name: &str, folder: &str) {
    let files = top_level(&root.join(folder));
    let _ = writeln!(text, "pub const {name}: &[(&str, &str)] = &[");
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(text, "    ({stem:?}, include_str!({:?})),", file.display().to_string());
    }
    let _ = writeln!(text, "];");
}

/// The TOML files of a folder, sorted. Folders in it are baselines in other languages, which need
/// their other files too.
fn top_level(folder: &Path) -> Vec<PathBuf> {
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let mut files = files_below(folder, is_toml);
    files.retain(|file| file.parent() == Some(folder));
    files.sort();
    files
}

/// Crates whose version can change a result, since they compute, draw, or read and write what stages do;
/// each with the words that the packages which it does so with begin with. A test in `src/run/facts.rs`
/// fails for a dependency that is neither here nor among those that cannot.
const CRATES: [(&str, &[&str]); 14] = [
    ("burn", &["burn", "cubecl", "gemm", "libm", "macerator", "pulp"]),
    ("chrono", &["chrono"]),
    ("csv", &["csv", "itoa", "ryu"]),
    ("dejavu", &["dejavu"]),
    ("gemm", &["gemm", "pulp"]),
    ("half", &["half"]),
    ("image", &["fdeflate", "flate2", "image", "miniz_oxide", "png"]),
    ("plotters", &["ab_glyph", "owned_ttf_parser", "plotters", "ttf-parser"]),
    ("polars", &["polars"]),
    ("rand", &["chacha20", "rand"]),
    ("rand_distr", &["libm", "rand"]),
    ("safetensors", &["safetensors"]),
    ("statrs", &["libm", "nalgebra", "simba", "statrs"]),
    ("tokenizers", &["fancy-regex", "tokenizers", "unicode-normalization-alignments"]),
];

/// `const CRATES: &[(name, versions of the packages that it computes with)]`.
fn crates(text: &mut String, lock: &str) {
    let packages = packages(lock);
    let _ = writeln!(text, "pub const CRATES: &[(&str, &str)] = &[");
    for (name, words) in CRATES {
        let belongs = |package: &&String| words.iter().any(|word| package.starts_with(word));
        let versions: Vec<&str> = packages.iter().filter(belongs).map(String::as_str).collect();
        let _ = writeln!(text, "    ({name:?}, {:?}),", versions.join(", "));
    }
    let _ = writeln!(text, "];");
}

/// "name version" of every package in the lock file.
fn packages(lock: &str) -> Vec<String> {
    let value = |line: &str, key: &str| {
        line.strip_prefix(key).map(|rest| rest.trim_matches([' ', '=', '"']).to_owned())
    };
    let mut packages = Vec::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(found) = value(line, "name") {
            name = found;
        } else if let Some(version) = value(line, "version") {
            packages.push(format!("{name} {version}"));
        }
    }
    packages
}

fn commit(text: &mut String, root: &Path) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        let log = root.join(log);
        if log.exists() {
            println!("cargo::rerun-if-changed={}", log.display());
        }
    }
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let mut arguments = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    arguments.extend(INPUTS);
    let dirty = git(&arguments).is_none_or(|status| !status.is_empty());
    let _ = writeln!(text, "pub const COMMIT: &str = {commit:?};");
    let _ = writeln!(text, "pub const DIRTY: bool = {dirty};");
}

fn files_below(dir: &Path, wanted: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path, wanted));
        } else if wanted(&path) {
            files.push(path);
        }
    }
    files
}

/// 128-bit FNV-1a: enough to tell versions of a file apart, and needs no crate to build.
fn fnv(bytes: &[u8]) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in bytes {
        hash ^= u128::from(*byte);
        hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}
