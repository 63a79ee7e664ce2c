//! A working directory with one small experiment, in which tests run the binary.

// Each test program uses its own part.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub const EXPERIMENT: &str = r#"
id = "tiny"
title = "Tiny"
paper = "none"
dataset = "simulator"
family = "accuracy"
generators = ["probabilistic", "training-set-copy"]
conditions = { kind = "grid", max_edges = 6, max_depth = 3, samples = 2 }
sampling = { temperatures = [0.0] }

[profiles.smoke]
seeds = [0, 1]
graphs = 300
"#;

/// A working directory with one small experiment.
pub struct Workplace {
    dir: TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let workplace = Self { dir: TempDir::new().unwrap() };
        workplace.write("tiny.toml", EXPERIMENT);
        workplace
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracegym"));
        command
            .current_dir(self.path())
            .args(arguments)
            .env_remove("TRACEGYM_DATA")
            .env_remove("TRACEGYM_CACHE");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit code and what was said of `arguments`.
    pub fn said(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// The one message of a run that must be refused as the user's mistake.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let (code, said) = self.said(arguments);
        assert_eq!(code, 2, "{said}");
        let message = said.lines().last().unwrap().to_owned();
        assert!(message.starts_with("error: "), "{said}");
        message
    }

    /// Content of every file below `dir`, wall times left out.
    pub fn files(&self, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.path().join(dir);
        let is_result = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.starts_with("cost.") && !["timing.json", "run.json", "done"].contains(&&*name)
        };
        let files = files_below(&root).into_iter().filter(is_result);
        files
            .map(|path| {
                let content = std::fs::read(&path).unwrap();
                (path.strip_prefix(&root).unwrap().to_owned(), content)
            })
            .collect()
    }
}

pub const TINY: [&str; 4] = ["run", "tiny.toml", "--profile", "smoke"];

/// All that a program wrote, to either stream.
pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part)).concat()
}

/// All files below a folder, sorted.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        match entry.unwrap().path() {
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}
