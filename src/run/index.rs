//! `results/README.md`: what has been run, with links to every table and figure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use super::manifest::{EXPERIMENTS, GROUPS, Profile};
use super::provenance::RunRecord;
use super::publish::{INCOMPLETE, RESULTS, lock};
use super::work;
use crate::durable;
use crate::error::UserError;
use crate::report::table::{code, escape_markdown, link};

/// How long another run may take to write the index.
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD: &str = "# Results

Written by TraceGym after each run. A row is one run of an experiment: the dataset and profile, how many
training seeds stand behind it, how many of the paper's claims its numbers agree with, differ from, or
cannot speak to, its tables and figures, and the commit that published it. `run.json` in each folder
names every setting, input and stage.
";

/// What the index says about a run.
struct Run {
    /// Index into [`GROUPS`].
    group: usize,
    /// Folder of its tables, below `results`.
    folder: PathBuf,
    asked: Asked,
    dataset: String,
    commit: String,
    /// Published files, below the folder that holds `results`.
    files: Vec<String>,
    claims: Option<Claims>,
}

/// The part of an experiment that the index shows.
#[derive(Deserialize)]
struct Asked {
    id: String,
    title: String,
    paper: String,
    profile: Profile,
    seeds: Vec<u64>,
    // As records of earlier versions say it.
    #[serde(default, alias = "more_seeds")]
    extra_seeds: Vec<u64>,
}

/// Verdicts on the paper's claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claims {
    agree: u32,
    differ: u32,
    others: u32,
}

/// Writes the index of all results below `out`, where it is not there yet.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn write_index(out: &Path) -> Result<()> {
    let folder = out.join(RESULTS);
    let path = folder.join("README.md");
    // Two runs that end at once would each write an index without the other's results.
    let _lock = lock(&folder, PATIENCE)?;
    match index(out)? {
        Some(text) if fs::read_to_string(&path).ok().as_ref() != Some(&text) => {
            Ok(durable::write(&path, text.as_bytes())?)
        }
        _ => Ok(()),
    }
}

/// The index of all results below `out`; `None` where there are none.
///
/// # Errors
/// A folder that cannot be read.
pub fn index(out: &Path) -> Result<Option<String>> {
    let runs = runs(out)?;
    Ok((!runs.is_empty()).then(|| written(&runs)))
}

/// All runs whose record can be read, in the order of the index.
fn runs(out: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for experiment in folders(&out.join(RESULTS))? {
        for profile in folders(&experiment)? {
            for folder in std::iter::once(profile.clone()).chain(folders(&profile)?) {
                runs.extend(read(out, &folder));
                // That of a dataset's folder; the profile's own is among its folders.
                runs.extend(read(out, &folder.join(INCOMPLETE)).filter(|_| folder != profile));
            }
        }
    }
    let paper = EXPERIMENTS.names_in(GROUPS[0].0);
    for run in &mut runs {
        run.group = usize::from(!paper.contains(&run.asked.id));
    }
    runs.sort_by_cached_key(|run| {
        let Asked { id, profile, .. } = &run.asked;
        (run.group, place(id), std::cmp::Reverse(*profile), run.folder.clone())
    });
    Ok(runs)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| UserError::io(dir, "cannot be read", error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let paths = entries.map(|entry| Ok(entry.map_err(failed)?.path()));
    Ok(paths.collect::<Result<Vec<_>>>()?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The run of a folder; `None` for a folder that a run did not write.
fn read(out: &Path, folder: &Path) -> Option<Run> {
    let record: RunRecord = work::read_json(&folder.join("run.json")).ok()?;
    let asked: Asked = serde_json::from_value(record.experiment).ok()?;
    let changed = if record.dirty { ", changed" } else { "" };
    let files: Vec<String> = record.files.into_keys().collect();
    Some(Run {
        group: 0,
        folder: folder.strip_prefix(out.join(RESULTS)).ok()?.to_owned(),
        dataset: record.dataset.get("name")?.as_str()?.to_owned(),
        commit: format!("{}{changed}", record.commit.get(..7).unwrap_or(&record.commit)),
        claims: claims(out, &files),
        files,
        asked,
    })
}

/// Figures first, then tables, each by number; then the others by name.
fn place(id: &str) -> (u32, u32, String) {
    let numbered = |(kind, prefix): (u32, &str)| {
        let digits: String =
            id.strip_prefix(prefix)?.chars().take_while(char::is_ascii_digit).collect();
        Some((kind, digits.parse().ok()?))
    };
    let (kind, number) =
        [(0, "fig"), (1, "table")].into_iter().find_map(numbered).unwrap_or((2, 0));
    (kind, number, id.to_owned())
}

/// Verdicts in all tables of published claims; `None` where there is no claim.
fn claims(out: &Path, files: &[String]) -> Option<Claims> {
    let mut claims = Claims::default();
    for path in files.iter().filter(|path| path.ends_with("published.csv")) {
        let text = fs::read(out.join(path)).ok()?;
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(&text[..]);
        let column = reader.headers().ok()?.iter().position(|name| name == "verdict")?;
        for row in reader.records() {
            match row.ok()?.get(column)? {
                "agrees" => claims.agree += 1,
                "differs" => claims.differ += 1,
                _ => claims.others += 1,
            }
        }
    }
    (claims != Claims::default()).then_some(claims)
}

fn written(runs: &[Run]) -> String {
    let mut sections: Vec<(&str, Vec<&Run>)> = Vec::new();
    for run in runs {
        match sections.last_mut().filter(|(id, _)| *id == run.asked.id) {
            Some((_, section)) => section.push(run),
            None => sections.push((&run.asked.id, vec![run])),
        }
    }
    let mut text = HEAD.to_owned();
    let mut group = None;
    for (id, section) in sections {
        if group.replace(section[0].group) != Some(section[0].group) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n## {}\n", GROUPS[section[0].group].1);
        }
        let Asked { title, paper, .. } = &section[0].asked;
        let _ = write!(
            text,
            "\n### {}\n\n{} ({}).\n\n\
             | dataset | profile | seeds | claims: agree / differ / neither | tables | figures | commit |\n\
             |---|---|---|---|---|---|---|\n",
            escape_markdown(id),
            escape_markdown(title),
            escape_markdown(paper),
        );
        section.iter().for_each(|run| text.push_str(&run.row()));
    }
    text
}

impl Run {
    fn row(&self) -> String {
        let Asked { profile, seeds, extra_seeds, .. } = &self.asked;
        let more = match extra_seeds.len() {
            0 => String::new(),
            more => format!(" ({} without a network)", seeds.len() + more),
        };
        let claims = self.claims.map_or_else(
            || "–".to_owned(),
            |Claims { agree, differ, others }| format!("{agree} / {differ} / {others}"),
        );
        let incomplete = if self.folder.ends_with(INCOMPLETE) { ", incomplete" } else { "" };
        format!(
            "| {}{incomplete} | `{}` | {}{more} | {claims} | {} | {} | {} |
",
            code(&self.dataset),
            profile.as_str(),
            seeds.len(),
            self.links(".md", ""),
            self.links(".svg", "../"),
            link(&self.commit, &format!("{}/run.json", self.folder.display())),
        )
    }

    /// Links to the files that end in `ending`, by their names.
    fn links(&self, ending: &str, up: &str) -> String {
        let links: BTreeMap<&str, String> = self
            .files
            .iter()
            .filter_map(|path| {
                let name = Path::new(path).file_name()?.to_str()?.strip_suffix(ending)?;
                let inside = path.strip_prefix("results/").unwrap_or(path);
                Some((name, link(name, &format!("{up}{inside}"))))
            })
            .collect();
        if links.is_empty() {
            "–".to_owned()
        } else {
            links.into_values().collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::display;
    use crate::testing::HOSTILE_NAMES;

    fn publish(out: &Path, folder: &str, record: &serde_json::Value) {
        let path = out.join(RESULTS).join(folder).join("run.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, record.to_string()).unwrap();
    }

    fn record(id: &str, profile: &str, dataset: &str, files: &[&str]) -> serde_json::Value {
        json!({
            "tracegym": "0.1.0",
            "commit": "0123456789abcdef",
            "dirty": dataset != "simulator",
            "cargo_lock": "",
            "experiment": {
                "id": id,
                "title": format!("What {id} asks"),
                "paper": "Figure 1",
                "profile": profile,
                "seeds": [0, 1, 2],
                "extra_seeds": if profile == "quick" { json!([]) } else { json!([3, 4]) },
            },
            "baselines": [],
            "dataset": { "name": dataset },
            "machine": {
                "cpu": "", "threads": 2, "device": "cpu", "device_reason": "", "driver": null
            },
            "stages": [],
            "report": "00",
            "files": files.iter().map(|path| (path.to_string(), "")).collect::<BTreeMap<_, _>>(),
        })
    }

    #[test]
    fn all_runs_in_order() {
        let out = tempfile::tempdir().unwrap();
        let files = [
            "results/fig4-fidelity/standard/published.csv",
            "results/fig4-fidelity/standard/one.md",
        ];
        let images = [
            "paper-figures/fig4-fidelity/standard/one.png",
            "paper-figures/fig4-fidelity/standard/one.svg",
        ];
        let all = [files, images].concat();
        publish(
            out.path(),
            "fig4-fidelity/standard",
            &record("fig4-fidelity", "standard", "simulator", &all),
        );
        publish(
            out.path(),
            "fig4-fidelity/quick",
            &record("fig4-fidelity", "quick", "simulator", &[]),
        );
        publish(
            out.path(),
            "fig4-fidelity/standard/b",
            &record("fig4-fidelity", "standard", "b", &files[1..]),
        );
        for folder in ["fig4-fidelity/quick/INCOMPLETE", "fig4-fidelity/standard/b/INCOMPLETE"] {
            publish(out.path(), folder, &record("fig4-fidelity", "quick", "b", &[]));
        }
        for id in ["constrained", "fig12-heat-maps", "table2-uncommon", "mine"] {
            publish(out.path(), &format!("{id}/quick"), &record(id, "quick", "simulator", &[]));
        }
        fs::write(
            out.path().join(files[0]),
            "# a note, with a comma\nsource,verdict\nfig. 4a,agrees\nfig. 4a,differs\nfig. 4b,differs\n\
             fig. 4b,not comparable\n",
        )
        .unwrap();
        // Neither is a run.
        fs::create_dir_all(out.path().join("results/notes")).unwrap();
        publish(out.path(), "fig4-fidelity/smoke", &json!({ "commit": 7 }));
        write_index(out.path()).unwrap();
        let index = out.path().join("results/README.md");
        let text = fs::read_to_string(&index).unwrap();
        insta::assert_snapshot!(text.strip_prefix(HEAD).expect("the head"));
        let before = fs::metadata(&index).unwrap().modified().unwrap();
        write_index(out.path()).unwrap();
        assert_eq!(fs::metadata(&index).unwrap().modified().unwrap(), before);
    }

    /// A run may come from anywhere: its titles and names are shown, and change nothing of the page.
    #[test]
    fn hostile_runs_are_shown() {
        let out = tempfile::tempdir().unwrap();
        for (number, name) in HOSTILE_NAMES.into_iter().chain([&*"x".repeat(10_000)]).enumerate() {
            let mut run = record(name, "quick", name, &[&format!("results/{name}/{name}.md")]);
            run["experiment"]["title"] = name.into();
            run["experiment"]["paper"] = name.into();
            run["commit"] = name.into();
            publish(out.path(), &format!("a ({number}) [b]/quick"), &run);
        }
        write_index(out.path()).unwrap();
        let text = fs::read_to_string(out.path().join("results/README.md")).unwrap();
        let text = text.strip_prefix(HEAD).expect("the head");
        assert!(text.chars().all(|c| c == '\n' || display::prints(c)));
        for row in text.lines().filter(|line| line.starts_with("| ") && !line.contains("profile")) {
            let bars = row.replace("\\\\", "").replace("\\|", "").matches('|').count();
            assert_eq!(bars, 8, "{row}");
        }
        insta::assert_snapshot!(text.replace(&"x".repeat(10_000), "x…x"));
    }

    #[test]
    fn without_results_there_is_no_index() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join(RESULTS)).unwrap();
        write_index(out.path()).unwrap();
        assert!(!out.path().join("results/README.md").exists());
    }
}
