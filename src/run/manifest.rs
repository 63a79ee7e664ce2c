//! Manifests of experiments (`experiments/ID.toml`).
//!
//! Files in the working directory win over the copies in the binary.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::facts;
use crate::error::{UserError, did_you_mean};
use crate::evaluate::{Conditions, Evaluation};
use crate::probes::Probe;
use crate::report::ReportKind;
use crate::toml_file;

/// How much work an experiment does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Proves that everything runs; minutes for all experiments. The numbers mean nothing.
    Smoke,
    /// One seed; about half an hour for all experiments on two cores.
    Quick,
    /// Several seeds; up to about two hours per experiment on two cores.
    Standard,
    /// The paper's sizes, for one GPU.
    Full,
}

impl Profile {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Full => "full",
        }
    }
}

/// Temperatures and top-k of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingGrid {
    /// Each is an arm of its own. 0 takes the most likely token.
    pub temperatures: Vec<f64>,
    /// Only the k most likely tokens are drawn from; absent keeps all.
    pub top_k: Option<u32>,
}

/// An experiment as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExperimentFile {
    id: String,
    title: String,
    paper: String,
    dataset: String,
    report: ReportKind,
    generators: Vec<String>,
    #[serde(default)]
    drawn: Vec<String>,
    #[serde(default)]
    snapshots: bool,
    conditions: Option<toml::Table>,
    evaluation: Option<toml::Table>,
    sampling: Option<toml::Table>,
    probe: Option<toml::Table>,
    profiles: IndexMap<Profile, ProfileFile>,
}

/// What one profile sets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    seeds: Vec<u64>,
    /// Further seeds of generators that train no network, whose trainings cost next to nothing.
    #[serde(default)]
    more_seeds: Vec<u64>,
    graphs: Option<u64>,
    generators: Option<Vec<String>>,
    #[serde(default)]
    conditions: toml::Table,
    #[serde(default)]
    evaluation: toml::Table,
    #[serde(default)]
    sampling: toml::Table,
    #[serde(default)]
    probe: toml::Table,
}

/// An experiment with one profile applied.
#[derive(Clone, Debug, Serialize)]
pub struct Experiment {
    pub id: String,
    pub title: String,
    /// The figure or table of the paper that it reproduces.
    pub paper: String,
    pub profile: Profile,
    /// Name of the dataset manifest that it uses unless told otherwise.
    pub dataset: String,
    pub report: ReportKind,
    /// Names of baselines, in the order of the tables.
    pub generators: Vec<String>,
    /// Those in figures that have a series for each generator, which more than a few would make
    /// unreadable; all where it is empty.
    pub drawn: Vec<String>,
    /// Whether snapshots saved during training are arms of their own.
    pub snapshots: bool,
    #[serde(flatten)]
    pub measure: Measure,
    pub seeds: Vec<u64>,
    /// Further seeds of generators that train no network.
    pub more_seeds: Vec<u64>,
    /// Graphs of the dataset, where the dataset is drawn or simulated.
    pub graphs: Option<u64>,
}

/// What is done with the trained generators.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Measure {
    Answers(Answers),
    Probe { probe: Probe },
}

/// Generators answer conditions, and the answers are evaluated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    pub conditions: Conditions,
    pub evaluation: Evaluation,
    pub sampling: SamplingGrid,
}

/// Where a manifest came from.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Experiment {
    /// The experiment `id_or_path` with `profile`.
    ///
    /// # Errors
    /// An unknown experiment, a file that cannot be read, or one that is not a valid manifest.
    pub fn find(id_or_path: &str, profile: Profile) -> Result<Self> {
        let source = find("experiment", "experiments", facts::EXPERIMENTS, id_or_path)?;
        Self::read(&source.path, &source.text, profile)
    }

    /// Ids of all experiments, sorted.
    pub fn ids() -> Vec<String> {
        names("experiments", facts::EXPERIMENTS)
    }

    /// Parses `text` and checks every profile in it, so that a slip in one does not wait for the
    /// day on which it is used.
    fn read(path: &Path, text: &str, profile: Profile) -> Result<Self> {
        let file: ExperimentFile = toml_file::parse(path, text)?;
        let mut chosen = None;
        for name in file.profiles.keys() {
            let experiment = Self::resolve(path, text, &file, *name)?;
            if *name == profile {
                chosen = Some(experiment);
            }
        }
        chosen.ok_or_else(|| {
            let known: Vec<&str> = file.profiles.keys().map(|name| name.as_str()).collect();
            let message =
                format!("no [profiles.{}]; it has {}", profile.as_str(), known.join(", "));
            UserError::input(path, "profiles", message).into()
        })
    }

    fn resolve(path: &Path, text: &str, file: &ExperimentFile, profile: Profile) -> Result<Self> {
        let ExperimentFile { id, title, paper, dataset, report, generators, .. } = file.clone();
        let overrides = &file.profiles[&profile];
        let generators = overrides.generators.clone().unwrap_or(generators);
        let empty = |what: &str| {
            let place = format!("profile {}", profile.as_str());
            UserError::input(path, place, format!("`{what}` is empty: name at least one"))
        };
        if let Some(name) = file.drawn.iter().find(|name| !file.generators.contains(name)) {
            let message =
                format!("`{name}` is not one of `generators`: leave it out, or add it there");
            return Err(UserError::input(path, "drawn", message).into());
        }
        if generators.is_empty() {
            return Err(empty("generators").into());
        }
        if overrides.seeds.is_empty() {
            return Err(empty("seeds").into());
        }
        let measure = Measure::resolve(path, text, file, overrides)?;
        if let Measure::Answers(answers) = &measure
            && answers.sampling.temperatures.is_empty()
        {
            return Err(empty("temperatures").into());
        }
        Ok(Self {
            id,
            title,
            paper,
            profile,
            dataset,
            report,
            generators,
            drawn: file.drawn.clone(),
            snapshots: file.snapshots,
            measure,
            seeds: overrides.seeds.clone(),
            more_seeds: overrides.more_seeds.clone(),
            graphs: overrides.graphs,
        })
    }
}

impl Experiment {
    /// Seeds of a generator, which trains a `network` or none.
    pub fn seeds_of(&self, network: bool) -> Vec<u64> {
        let more = self.more_seeds.iter().filter(|seed| !network && !self.seeds.contains(seed));
        self.seeds.iter().chain(more).copied().collect()
    }
}

impl Measure {
    fn resolve(
        path: &Path,
        text: &str,
        file: &ExperimentFile,
        overrides: &ProfileFile,
    ) -> Result<Self> {
        let wrong = |key: &str, message: &str| UserError::input(path, key, message.to_owned());
        let tables = [
            ("conditions", &file.conditions, &overrides.conditions),
            ("evaluation", &file.evaluation, &overrides.evaluation),
            ("sampling", &file.sampling, &overrides.sampling),
        ];
        let Some(base) = &file.probe else {
            let mut resolved = Vec::new();
            for (key, base, over) in tables {
                let message = "missing: an experiment has `conditions`, `evaluation` and `sampling`, or a `probe`";
                let base = base.as_ref().ok_or_else(|| wrong(key, message))?;
                resolved.push(merged(base, over));
            }
            if !overrides.probe.is_empty() {
                return Err(wrong("probe", "a profile cannot add one: write `[probe]`").into());
            }
            return Ok(Self::Answers(Answers {
                conditions: toml_file::from_table(path, text, &resolved[0])?,
                evaluation: toml_file::from_table(path, text, &resolved[1])?,
                sampling: toml_file::from_table(path, text, &resolved[2])?,
            }));
        };
        for (key, base, over) in tables {
            if base.is_some() || !over.is_empty() {
                return Err(wrong(key, "nothing is generated for a `probe`: leave it out").into());
            }
        }
        let probe: Probe = toml_file::from_table(path, text, &merged(base, &overrides.probe))?;
        probe.check().map_err(|error| wrong("probe", &error.to_string()))?;
        Ok(Self::Probe { probe })
    }
}

/// `base` with the keys of `over` put over it, table by table.
pub(super) fn merged(base: &toml::Table, over: &toml::Table) -> toml::Table {
    let mut result = base.clone();
    for (key, value) in over {
        match (result.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => {
                *inner = merged(inner, over);
            }
            _ => {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    result
}

/// The manifest `name_or_path`: a path to a file, a file of `folder`, or an embedded copy.
pub(super) fn find(
    what: &str,
    folder: &str,
    embedded: &[(&str, &str)],
    name_or_path: &str,
) -> Result<Source, UserError> {
    let given = Path::new(name_or_path);
    let is_path = given.extension().is_some_and(|extension| extension == "toml");
    let (path, stem) = if is_path {
        let stem = given.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (given.to_owned(), stem)
    } else {
        let inside = Path::new(folder).join(name_or_path).join(FOLDER_MANIFEST);
        let file = Path::new(folder).join(format!("{name_or_path}.toml"));
        (if inside.exists() { inside } else { file }, name_or_path.to_owned())
    };
    if path.exists() {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UserError::io(&path, "cannot be read", error))?;
        return Ok(Source { path, text });
    }
    let in_folder = !is_path || given.parent() == Some(Path::new(folder));
    if let Some((_, text)) = embedded.iter().find(|(name, _)| in_folder && *name == stem) {
        return Ok(Source { path, text: (*text).to_owned() });
    }
    let known = names(folder, embedded);
    let known = || known.iter().map(String::as_str);
    let hint = match did_you_mean(&stem, known()) {
        hint if hint.is_empty() => format!("; known: {}", known().collect::<Vec<_>>().join(", ")),
        hint => hint,
    };
    Err(UserError::setting(format!("{what} `{name_or_path}` does not exist{hint}")))
}

/// Manifest of a baseline that is a folder.
pub(super) const FOLDER_MANIFEST: &str = "baseline.toml";

/// Names of the manifests in `folder` below the working directory and in the binary, sorted.
pub(super) fn names(folder: &str, embedded: &[(&str, &str)]) -> Vec<String> {
    let mut names: Vec<String> = embedded.iter().map(|(name, _)| (*name).to_owned()).collect();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_file = path.extension().is_some_and(|extension| extension == "toml");
        if (is_file || path.join(FOLDER_MANIFEST).exists())
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Baseline;
    use super::*;

    const EXAMPLE: &str = r#"
id = "x"
title = "X"
paper = "Figure 0"
dataset = "simulator"
report = "accuracy"
generators = ["resample"]
evaluation = { kind = "accuracy" }
[sampling]
temperatures = [0.0]
[conditions]
kind = "grid"
max_edges = 30
max_depth = 6
samples = 50
[profiles.smoke]
seeds = [0]
conditions = { samples = 1 }
[profiles.full]
seeds = [0, 1]
sampling = { temperatures = [0.0, 0.8], top_k = 50 }
"#;

    fn read(text: &str, profile: Profile) -> Result<Experiment, String> {
        Experiment::read(Path::new("experiments/x.toml"), text, profile)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_profile_is_put_over_the_base() {
        let answers = |profile| match read(EXAMPLE, profile).unwrap().measure {
            Measure::Answers(answers) => answers,
            Measure::Probe { .. } => panic!("no probe"),
        };
        let smoke = answers(Profile::Smoke);
        assert_eq!(smoke.conditions, Conditions::Grid { max_edges: 30, max_depth: 6, samples: 1 });
        assert_eq!(smoke.sampling.temperatures, [0.0]);
        let full = answers(Profile::Full);
        assert_eq!(full.conditions, Conditions::Grid { max_edges: 30, max_depth: 6, samples: 50 });
        assert_eq!(full.sampling.top_k, Some(50));
        assert_eq!(read(EXAMPLE, Profile::Full).unwrap().seeds, [0, 1]);
    }

    const PROBE: &str = r#"
id = "y"
title = "Y"
paper = "Figure 7"
dataset = "simulator"
report = "probes"
generators = ["recursive-llm"]
[probe]
task = "later"
train = 100
test = 50
arms = ["pretrained", "majority"]
[profiles.smoke]
seeds = [0]
probe = { train = 20, tuning = { epochs = 1 } }
"#;

    #[test]
    fn generators_without_a_network_have_more_seeds() {
        let text = EXAMPLE.replace("seeds = [0, 1]", "seeds = [0, 1]\nmore_seeds = [1, 4]");
        let experiment = read(&text, Profile::Full).unwrap();
        assert_eq!(experiment.seeds_of(true), [0, 1]);
        assert_eq!(experiment.seeds_of(false), [0, 1, 4]);
    }

    #[test]
    fn a_probe_stands_in_place_of_conditions() {
        let Measure::Probe { probe } = read(PROBE, Profile::Smoke).unwrap().measure else {
            panic!("a probe")
        };
        assert_eq!((probe.train, probe.test, probe.tuning.epochs), (20, 50, 1.0));
        let slip =
            |from: &str, to: &str| read(&PROBE.replace(from, to), Profile::Smoke).unwrap_err();
        assert!(slip("later", "latter").contains("did you mean `later`"));
        assert!(slip("\"majority\"", "\"majorty\"").contains("did you mean `majority`"));
        assert!(slip("test = 50", "test = 0").contains("train 20 and test 0"));
        assert!(slip("epochs = 1", "epochs = 0").contains("epochs 0 is not above 0"));
        let both = slip("[probe]", "sampling = { temperatures = [0] }\n[probe]");
        assert!(both.contains("sampling: nothing is generated for a `probe`"), "{both}");
        let neither = read(&EXAMPLE.replace("[sampling]", "[profiles.quick]"), Profile::Smoke);
        assert!(neither.is_err());
        let logistic = PROBE.replace("later", "call").replace("majority", "logistic");
        let logistic = read(&logistic, Profile::Smoke).unwrap_err();
        assert!(logistic.contains("arm `logistic` answers yes or no"), "{logistic}");
    }

    #[test]
    fn slips_are_named_with_line_and_remedy() {
        let slip =
            |from: &str, to: &str| read(&EXAMPLE.replace(from, to), Profile::Smoke).unwrap_err();
        assert_eq!(
            slip("title =", "titel ="),
            "experiments/x.toml: line 3: unknown key `titel` — did you mean `title`?"
        );
        assert_eq!(
            slip("{ samples = 1 }", "{ sample = 1 }"),
            "experiments/x.toml: line 18: unknown key `sample` — did you mean `samples`?"
        );
        assert_eq!(
            slip("profiles.full", "profiles.fool"),
            "experiments/x.toml: line 19: unknown value `fool` — did you mean `full`?"
        );
        assert_eq!(
            read(EXAMPLE, Profile::Quick).unwrap_err(),
            "experiments/x.toml: profiles: no [profiles.quick]; it has smoke, full"
        );
        assert!(slip("seeds = [0]\n", "seeds = []\n").contains("`seeds` is empty"));
        let drawn = slip("title =", "drawn = [\"nobody\"]\ntitle =");
        assert!(drawn.contains("drawn: `nobody` is not one of `generators`"), "{drawn}");
    }

    #[test]
    fn shipped_manifests_are_valid_in_every_profile() {
        for id in Experiment::ids() {
            for profile in Profile::value_variants() {
                let experiment = Experiment::find(&id, *profile).unwrap();
                assert_eq!(experiment.id, id);
                for baseline in &experiment.generators {
                    Baseline::find(baseline, *profile).unwrap();
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_known_one() {
        let error = Experiment::find("fig3-acuracy", Profile::Smoke).unwrap_err().to_string();
        assert_eq!(
            error,
            "experiment `fig3-acuracy` does not exist — did you mean `fig3-accuracy`?"
        );
    }
}
