//! Golden tests: what a source makes of a tiny input, and what every dataset goes through.

use std::path::Path;

use super::{BuildOptions, DatasetManifest, VERSION, build};
use crate::version::{Version, golden};

/// Builds the dataset of a manifest with this `source` (`DIR` in it is the folder of `files`), and holds
/// graphs, funnel and sides to the source's version.
pub fn check(version: Version, source: &str, files: &[(&str, &str)]) {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("writes");
    }
    let source = source.replace("DIR", &dir.path().display().to_string());
    let text = format!(
        "name = \"golden\"\nsplit = {{ kind = \"by-structure\", test_share = 0.3 }}\n{source}"
    );
    let manifest =
        DatasetManifest::parse(Path::new("golden.toml"), &text, Some(dir.path().to_owned()));
    let scratch = tempfile::tempdir().expect("a folder");
    let mut dataset =
        build(&manifest.expect("a manifest"), &BuildOptions::new(scratch.path())).expect("builds");
    let mut text = dataset.card.funnel.to_string();
    dataset.save(scratch.path()).expect("saves");
    text += &format!("content {}\n", dataset.card.hash);
    for graph in dataset.graphs().iter().take(6) {
        text += &format!("{} {:?}\n", graph.service(), graph.rows());
    }
    golden::assert(version, &text);
}

/// The random split, and the files of a dataset.
#[test]
fn datasets() {
    let text = "name = \"golden\"\ngraphs = 60\n[source]\nkind = \"simulator\"\n";
    let manifest =
        DatasetManifest::parse(Path::new("golden.toml"), text, None).expect("a manifest");
    let dir = tempfile::tempdir().expect("a folder");
    let mut dataset = build(&manifest, &BuildOptions::new(dir.path())).expect("builds");
    dataset.save(dir.path()).expect("saves");
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).expect("a folder").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let files = files.iter().map(|file| {
        let digest = blake3::hash(&std::fs::read(file.path()).expect("reads")).to_hex();
        format!("{} {}\n", file.file_name().display(), &digest[..16])
    });
    golden::assert(VERSION, &files.collect::<String>());
}
