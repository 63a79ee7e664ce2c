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
generators = ["probabilistic", "resample"]
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
        let mut files = BTreeMap::new();
        collect(&self.path().join(dir), &self.path().join(dir), &mut files);
        files
    }
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(root, &path, files);
        } else if !name.starts_with("cost.")
            && !["timing.json", "run.json", "done"].contains(&&*name)
        {
            files
                .insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

pub const TINY: [&str; 4] = ["run", "tiny.toml", "--profile", "smoke"];
