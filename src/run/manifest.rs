//! Manifests of experiments: `experiments/paper/ID.toml` and `experiments/extensions/ID.toml`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::variant::{Groups, Variant};
use crate::error::UserError;
use crate::evaluate::probes::Probe;
use crate::evaluate::{Conditions, FamilyId, samples};
use crate::manifests::{Kind, Manifest, as_named};
use crate::report::DeclaredPair;
use crate::{check, toml_file};

/// Manifests of experiments.
pub const EXPERIMENTS: Kind =
    Kind { what: "experiment", folders: &[GROUPS[0].0, GROUPS[1].0], inside: None };
/// Folders of experiments, with what those in it are for.
pub const GROUPS: [(&str, &str); 2] = [
    ("experiments/paper", "Tables and figures of the paper"),
    ("experiments/extensions", "Extensions"),
];

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
    /// Each is a row of its own. 0 takes the most likely token.
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
    family: FamilyId,
    reports: Option<Vec<String>>,
    generators: Vec<toml::Value>,
    #[serde(default)]
    plot: Vec<toml::Value>,
    #[serde(default)]
    checkpoints: bool,
    compared: Option<u32>,
    pairs: Option<Vec<DeclaredPair>>,
    conditions: Option<toml::Table>,
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
    extra_seeds: Vec<u64>,
    graphs: Option<u64>,
    compared: Option<u32>,
    generators: Option<Vec<toml::Value>>,
    #[serde(default)]
    conditions: toml::Table,
    #[serde(default)]
    sampling: toml::Table,
    #[serde(default)]
    probe: toml::Table,
}

/// An experiment with one profile applied.
#[derive(Clone, Debug, Serialize)]
pub struct Experiment {
    pub id: String,
    /// Its file, as it was named.
    pub manifest: PathBuf,
    /// The file of the dataset's manifest, once it is planned which dataset is used.
    pub dataset_manifest: Option<PathBuf>,
    pub title: String,
    /// The figure or table of the paper that it reproduces.
    pub paper: String,
    pub profile: Profile,
    /// Name of the dataset manifest that it uses unless told otherwise.
    pub dataset: String,
    /// The metric family that scores the answers, or tunes the networks.
    pub family: FamilyId,
    /// Ids of the family's reports that are drawn.
    pub reports: Vec<String>,
    /// In the order of the tables.
    pub generators: Vec<Variant>,
    /// Those in figures that have a series for each generator, which more than a few would make
    /// unreadable; all where it is empty.
    pub plot: Vec<Variant>,
    /// Whom it compares with whom; the usual pairs where it is absent.
    pub pairs: Option<Vec<DeclaredPair>>,
    /// Whether checkpoints saved during training are rows of their own.
    pub checkpoints: bool,
    #[serde(flatten)]
    pub measure: Measure,
    pub seeds: Vec<u64>,
    /// Further seeds of generators that train no network.
    pub extra_seeds: Vec<u64>,
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
    pub sampling: SamplingGrid,
    /// Graphs of each row that distances are measured on; a share of the prompts where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<u32>,
}

impl Experiment {
    /// The same with these generators in place of its own.
    #[must_use]
    pub fn only(mut self, generators: Vec<Variant>) -> Self {
        self.generators = generators;
        self.plot.clear();
        self
    }

    /// The experiment `id_or_path` with `profile`.
    ///
    /// # Errors
    /// An unknown experiment, a file that cannot be read, or one that is not a valid manifest.
    pub fn find(id_or_path: &str, profile: Profile) -> Result<Self> {
        let Manifest { path, text, .. } = EXPERIMENTS.find(id_or_path)?;
        Self::read(&path, &text, profile)
    }

    /// Parses `text` and checks every profile in it, so that a slip in one does not wait for the
    /// day on which it is used.
    fn read(path: &Path, text: &str, profile: Profile) -> Result<Self> {
        let file: ExperimentFile = toml_file::parse(path, text)?;
        let (mut chosen, groups) = (None, Groups::default());
        for name in file.profiles.keys() {
            let experiment = Self::resolve(path, text, &file, &groups, *name)?;
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

    fn resolve(
        path: &Path,
        text: &str,
        file: &ExperimentFile,
        groups: &Groups,
        profile: Profile,
    ) -> Result<Self> {
        let ExperimentFile { id, title, paper, dataset, family, .. } = file.clone();
        // Results lie in a folder of this name.
        check::name(&id).map_err(|message| UserError::input(path, "id", message))?;
        let overrides = &file.profiles[&profile];
        let listed = |entries: &[toml::Value]| groups.listed(path, text, entries);
        let all = listed(&file.generators)?;
        let plot = listed(&file.plot)?;
        let names = |variants: &[Variant]| variants.iter().map(Variant::name).collect::<Vec<_>>();
        let wrong = |message: String| {
            UserError::input(path, format!("profile {}", profile.as_str()), message)
        };
        let empty = |what: &str| wrong(format!("`{what}` is empty: name at least one"));
        if let Some(missing) = plot.iter().find(|plot| !all.contains(plot)) {
            let name = missing.name();
            let message =
                format!("`{name}` is not one of `generators`: leave it out, or add it there");
            return Err(UserError::input(path, "plot", message).into());
        }
        if let Some(pairs) = &file.pairs {
            check_pairs(pairs, &names(&all))
                .map_err(|message| UserError::input(path, "pairs", message))?;
        }
        let generators = overrides.generators.as_deref().map_or(Ok(all), listed)?;
        if generators.is_empty() {
            return Err(empty("generators").into());
        }
        if overrides.seeds.is_empty() {
            return Err(empty("seeds").into());
        }
        let measure = Measure::resolve(path, text, file, overrides)?;
        let reports = reports_of(path, file)?;
        if let Measure::Answers(answers) = &measure {
            if answers.sampling.temperatures.is_empty() {
                return Err(empty("temperatures").into());
            }
            answers.check().map_err(wrong)?;
        }
        check::each_once("generators", &names(&generators)).map_err(wrong)?;
        check::each_once("plot", &names(&plot)).map_err(wrong)?;
        check::each_once("seeds", &overrides.seeds).map_err(wrong)?;
        check::each_once("extra_seeds", &overrides.extra_seeds).map_err(wrong)?;
        let all = [&overrides.seeds[..], &overrides.extra_seeds[..]].concat();
        check::each_once("seeds with extra_seeds", &all).map_err(wrong)?;
        check::within("graphs", overrides.graphs.unwrap_or(1), 1..=u64::from(u32::MAX))
            .map_err(wrong)?;
        Ok(Self {
            id,
            manifest: as_named(path),
            dataset_manifest: None,
            title,
            paper,
            profile,
            dataset,
            family,
            reports,
            generators,
            plot,
            pairs: file.pairs.clone(),
            checkpoints: file.checkpoints,
            measure,
            seeds: overrides.seeds.clone(),
            extra_seeds: overrides.extra_seeds.clone(),
            graphs: overrides.graphs,
        })
    }
}

impl Experiment {
    /// Seeds of a generator, which trains a `network` or none.
    pub fn seeds_of(&self, network: bool) -> Vec<u64> {
        let more = self.extra_seeds.iter().filter(|_| !network);
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
            ("sampling", &file.sampling, &overrides.sampling),
        ];
        let id = file.family.id;
        if file.family.score.is_none() && file.probe.is_none() {
            return Err(wrong("probe", &format!("missing: family `{id}` tunes networks")).into());
        }
        if file.family.score.is_some() && file.probe.is_some() {
            let message = format!("family `{id}` scores answers: leave `probe` out");
            return Err(wrong("probe", &message).into());
        }
        let Some(base) = &file.probe else {
            let mut resolved = Vec::new();
            for (key, base, over) in tables {
                let message =
                    "missing: an experiment has `conditions` and `sampling`, or a `probe`";
                let base = base.as_ref().ok_or_else(|| wrong(key, message))?;
                resolved.push(toml_file::merged(base, over));
            }
            if !overrides.probe.is_empty() {
                return Err(wrong("probe", "a profile cannot add one: write `[probe]`").into());
            }
            return Ok(Self::Answers(Answers {
                conditions: toml_file::from_table(path, text, &resolved[0])?,
                sampling: toml_file::from_table(path, text, &resolved[1])?,
                compared: compared_of(path, file, overrides)?,
            }));
        };
        for (key, base, over) in tables {
            if base.is_some() || !over.is_empty() {
                return Err(wrong(key, "nothing is generated for a `probe`: leave it out").into());
            }
        }
        let probe: Probe =
            toml_file::from_table(path, text, &toml_file::merged(base, &overrides.probe))?;
        probe.check().map_err(|error| wrong("probe", &error.to_string()))?;
        Ok(Self::Probe { probe })
    }
}

/// Whether pairs name generators of the experiment.
fn check_pairs(pairs: &[DeclaredPair], generators: &[String]) -> Result<(), String> {
    if pairs.is_empty() {
        return Err("is empty: name at least one, or leave it out for the usual ones".to_owned());
    }
    for pair in pairs {
        let [one, other]: [String; 2] = pair.clone().into();
        if one == other {
            return Err(format!("`{one}` is compared with itself: name two"));
        }
        if let Some(name) = pair.generators().find(|name| !generators.iter().any(|g| g == name)) {
            return Err(format!(
                "`{name}` is not one of `generators`: a pair is [\"each\" or a generator, \"best\", \"real\" or a generator]"
            ));
        }
    }
    Ok(())
}

/// Graphs of each row that distances are measured on, where the manifest declares them.
fn compared_of(
    path: &Path,
    file: &ExperimentFile,
    overrides: &ProfileFile,
) -> Result<Option<u32>, UserError> {
    let wrong = |message: String| UserError::input(path, "compared", message);
    let Some(graphs) = overrides.compared.or(file.compared) else { return Ok(None) };
    if !file.family.is_of_samples() {
        let id = file.family.id;
        return Err(wrong(format!("family `{id}` measures no distance: leave it out")));
    }
    check::within("compared", graphs, samples::LEAST as u32..=MAX_COMPARED).map_err(wrong)?;
    Ok(Some(graphs))
}

/// The reports that a manifest names, or the first of its family.
fn reports_of(path: &Path, file: &ExperimentFile) -> Result<Vec<String>, UserError> {
    let known: Vec<&str> = file.family.reports.iter().map(|report| report.id).collect();
    let Some(named) = &file.reports else {
        return Ok(known.first().map(|id| (*id).to_owned()).into_iter().collect());
    };
    let wrong = |message: String| UserError::input(path, "reports", message);
    if named.is_empty() {
        return Err(wrong(format!("is empty: name at least one of {}", known.join(", "))));
    }
    if let Some(unknown) = named.iter().find(|id| !known.contains(&id.as_str())) {
        let family = file.family.id;
        let known = known.join(", ");
        let message = format!("family `{family}` has no report `{unknown}`; it has {known}");
        return Err(wrong(message));
    }
    check::each_once("reports", named).map_err(wrong)?;
    Ok(named.clone())
}

/// Above this all tokens are as good as equally likely.
const MAX_TEMPERATURE: f64 = 1_000.0;
const MAX_TOP_K: u32 = 10_000_000;
/// Most graphs of each row that distances are measured on.
const MAX_COMPARED: u32 = 1_000_000;

impl Answers {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// A number that cannot be, or a temperature that is there twice, by its key.
    fn check(&self) -> Result<(), String> {
        let SamplingGrid { temperatures, top_k } = &self.sampling;
        for temperature in temperatures {
            check::within("sampling.temperatures", *temperature, 0.0..=MAX_TEMPERATURE)?;
        }
        check::each_once("sampling.temperatures", temperatures)?;
        check::within("sampling.top_k", top_k.unwrap_or(1), 1..=MAX_TOP_K)?;
        self.conditions.check()
    }
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
family = "accuracy"
generators = ["training-set-copy"]
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
        Experiment::read(Path::new("x.toml"), text, profile).map_err(|error| error.to_string())
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

    #[test]
    fn families_and_reports_are_known_by_name() {
        let family = read(&EXAMPLE.replace("\"accuracy\"", "\"acuracy\""), Profile::Smoke);
        assert!(family.unwrap_err().contains("did you mean `accuracy`"));
        let with = |reports: &str| {
            let keys = format!("family = \"fidelity\"\nreports = {reports}");
            let read = read(&EXAMPLE.replace("family = \"accuracy\"", &keys), Profile::Smoke);
            read.map(|experiment| experiment.reports)
        };
        assert_eq!(read(EXAMPLE, Profile::Smoke).unwrap().reports, ["accuracy"]);
        assert_eq!(with("[\"learning\", \"fidelity\"]").unwrap(), ["learning", "fidelity"]);
        let error = with("[\"accuracy\"]").unwrap_err();
        let expected = "family `fidelity` has no report `accuracy`; it has fidelity, learning";
        assert!(error.ends_with(expected), "{error}");
        assert!(with("[]").unwrap_err().contains("reports: is empty"));
        let probe = EXAMPLE.replace("\"accuracy\"", "\"probes\"");
        let error = read(&probe, Profile::Smoke).unwrap_err();
        assert!(error.ends_with("probe: missing: family `probes` tunes networks"), "{error}");
        let probe = PROBE.replace("\"probes\"", "\"accuracy\"");
        let error = read(&probe, Profile::Smoke).unwrap_err();
        assert!(error.ends_with("family `accuracy` scores answers: leave `probe` out"), "{error}");
    }

    const PROBE: &str = r#"
id = "y"
title = "Y"
paper = "Figure 7"
dataset = "simulator"
family = "probes"
generators = ["recursive-llm"]
[probe]
task = "later"
train = 100
test = 50
methods = ["pretrained", "majority"]
[profiles.smoke]
seeds = [0]
probe = { train = 20, tuning = { epochs = 1 } }
"#;

    #[test]
    fn pairs_name_generators_or_roles() {
        let with = |pairs: &str| {
            let keys = format!("family = \"accuracy\"\npairs = {pairs}");
            let text = EXAMPLE.replace("family = \"accuracy\"", &keys);
            read(&text, Profile::Smoke).map(|experiment| experiment.pairs)
        };
        let pairs = with("[[\"each\", \"best\"], [\"training-set-copy\", \"real\"]]").unwrap();
        let expected = [("each", "best"), ("training-set-copy", "real")];
        assert_eq!(pairs, Some(expected.map(|(one, other)| DeclaredPair::of(one, other)).to_vec()));
        let unknown = with("[[\"each\", \"marcov\"]]").unwrap_err();
        assert!(unknown.contains("pairs: `marcov` is not one of `generators`"), "{unknown}");
        let same = with("[[\"training-set-copy\", \"training-set-copy\"]]").unwrap_err();
        assert!(same.contains("compared with itself"), "{same}");
        assert!(with("[]").unwrap_err().contains("pairs: is empty"));
        assert_eq!(read(EXAMPLE, Profile::Smoke).unwrap().pairs, None);
    }

    #[test]
    fn the_number_of_compared_graphs_is_declared_or_refused() {
        let with = |family: &str, compared: &str| {
            let keys = format!("family = \"{family}\"\ncompared = {compared}");
            let text = EXAMPLE.replace("family = \"accuracy\"", &keys);
            let experiment = read(&text, Profile::Smoke)?;
            let Measure::Answers(answers) = experiment.measure else { panic!("answers") };
            Ok::<_, String>(answers.compared)
        };
        assert_eq!(with("fidelity", "500"), Ok(Some(500)));
        let few = with("fidelity", "49").unwrap_err();
        assert!(few.contains("compared") && few.contains("50"), "{few}");
        let none = with("accuracy", "500").unwrap_err();
        assert!(none.ends_with("family `accuracy` measures no distance: leave it out"), "{none}");
    }

    #[test]
    fn generators_without_a_network_have_extra_seeds() {
        let text = EXAMPLE.replace("seeds = [0, 1]", "seeds = [0, 1]\nextra_seeds = [5, 4]");
        let experiment = read(&text, Profile::Full).unwrap();
        assert_eq!(experiment.seeds_of(true), [0, 1]);
        assert_eq!(experiment.seeds_of(false), [0, 1, 5, 4]);
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
        assert!(logistic.contains("method `logistic` answers yes or no"), "{logistic}");
    }

    #[test]
    fn slips_are_named_with_line_and_remedy() {
        let slip =
            |from: &str, to: &str| read(&EXAMPLE.replace(from, to), Profile::Smoke).unwrap_err();
        assert_eq!(
            slip("title =", "titel ="),
            "x.toml: line 3: unknown key `titel` — did you mean `title`?"
        );
        assert_eq!(
            slip("{ samples = 1 }", "{ sample = 1 }"),
            "x.toml: line 17: unknown key `sample` — did you mean `samples`?"
        );
        assert_eq!(
            slip("profiles.full", "profiles.fool"),
            "x.toml: line 18: unknown value `fool` — did you mean `full`?"
        );
        assert_eq!(
            read(EXAMPLE, Profile::Quick).unwrap_err(),
            "x.toml: profiles: no [profiles.quick]; it has smoke, full"
        );
        assert!(slip("seeds = [0]\n", "seeds = []\n").contains("`seeds` is empty"));
        let plot = slip("title =", "plot = [\"nobody\"]\ntitle =");
        assert!(plot.contains("plot: `nobody` is not one of `generators`"), "{plot}");
    }

    #[test]
    fn what_would_be_counted_twice_is_refused() {
        let slip = |from: &str, to: &str| {
            read(&EXAMPLE.replace(from, to), Profile::Full).expect_err("refused")
        };
        assert_eq!(
            slip("seeds = [0, 1]", "seeds = [0, 1, 0]"),
            "x.toml: profile full: seeds has 0 more than once: name each once"
        );
        for (from, to, words) in [
            ("[0, 1]", "[0, 1]\nextra_seeds = [2, 2]", "extra_seeds has 2 more than once"),
            ("[0, 1]", "[0, 1]\nextra_seeds = [1]", "seeds with extra_seeds has 1 more than once"),
            ("[\"training-set-copy\"]", "[\"a\", \"a\"]", "generators has \"a\" more than once"),
            (
                "[\"training-set-copy\"]",
                "[\"a\"]\nplot = [\"a\", \"a\"]",
                "plot has \"a\" more than once",
            ),
            ("[0.0, 0.8]", "[0.8, 0.0, 0.80]", "sampling.temperatures has 0.8 more than once"),
            ("[0, 1]", "[0, 1]\ngenerators = [\"b\", \"b\"]", "generators has \"b\""),
        ] {
            let error = slip(from, to);
            assert!(error.contains(words), "{to}: {error}");
        }
        let probe = PROBE.replace("\"majority\"", "\"majority\", \"majority\"");
        let error = read(&probe, Profile::Smoke).unwrap_err();
        assert!(error.contains("methods has \"majority\" more than once"), "{error}");
    }

    #[test]
    fn numbers_and_names_that_cannot_be_are_refused_by_key() {
        let slip =
            |from: &str, to: &str| read(&EXAMPLE.replace(from, to), Profile::Full).expect_err(to);
        let huge = "9223372036854775807";
        for (from, to, words) in [
            ("seeds = [0, 1]", "seeds = [-1]", "line 19"),
            (
                "seeds = [0, 1]",
                "seeds = [0]\ngraphs = 0",
                "graphs = 0: must be from 1 to 4294967295",
            ),
            (
                "max_edges = 30",
                "max_edges = 4294967295",
                "conditions.max_edges = 4294967295: must be",
            ),
            ("max_depth = 6", "max_depth = 0", "conditions.max_depth = 0: must be from 1 to 1000"),
            ("samples = 50", "samples = 0", "conditions.samples = 0: must be from 1 to 100000"),
            ("samples = 50", "samples = 100_000", "requests of conditions = 13600000: must be"),
            ("0.8]", "-0.1]", "sampling.temperatures = -0.1: must be from 0 to 1000"),
            ("0.8]", "nan]", "sampling.temperatures = NaN"),
            ("0.8]", "inf]", "sampling.temperatures = inf"),
            ("top_k = 50", "top_k = 0", "sampling.top_k = 0: must be from 1 to"),
            ("id = \"x\"", "id = \"../x\"", "id: \"../x\" is no name"),
            ("id = \"x\"", "id = \"\"", "id: \"\" is no name"),
            (
                "id = \"x\"",
                "id = \"README.md\"",
                "id: \"README.md\" is no name: it ends like a file",
            ),
        ] {
            let error = slip(from, to);
            assert!(error.contains(words), "{to}: {error}");
        }
        // Too large for its type or its range: one message, and the line or the key.
        for (from, to) in [
            ("seeds = [0, 1]", format!("seeds = [0]\ngraphs = {huge}")),
            ("max_edges = 30", format!("max_edges = {huge}")),
            ("max_depth = 6", format!("max_depth = {huge}")),
            ("samples = 50", format!("samples = {huge}")),
            ("top_k = 50", format!("top_k = {huge}")),
            ("0.8]", format!("{huge}.0]")),
        ] {
            let error = slip(from, &to);
            assert!(error.starts_with("x.toml: "), "{to}: {error}");
        }
        let numbers = ["train = 100", "test = 50"];
        for (key, value) in numbers.map(|number| number.split_once(" = ").expect("a key")) {
            let text = PROBE.replace(&format!("{key} = {value}"), &format!("{key} = {huge}"));
            let text = text.replace("train = 20, ", "");
            let error = read(&text, Profile::Smoke).unwrap_err();
            assert!(error.contains(&format!("{key} = {huge}: must be from 1 to")), "{error}");
        }
        for key in ["batch_tokens", "micro_batch_tokens", "epochs", "learning_rate", "clip"] {
            let text = PROBE.replace("epochs = 1 ", &format!("{key} = {huge} "));
            let error = read(&text, Profile::Smoke).unwrap_err();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn shipped_manifests_are_valid_in_every_profile() {
        for id in EXPERIMENTS.names() {
            for profile in Profile::value_variants() {
                let experiment = Experiment::find(&id, *profile).unwrap();
                assert_eq!(experiment.id, id);
                for variant in &experiment.generators {
                    Baseline::of(variant, *profile).unwrap();
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
        let error = Experiment::find("fig3", Profile::Smoke).unwrap_err().to_string();
        assert_eq!(error, "experiment `fig3` does not exist — did you mean `fig3-accuracy`?");
        let error = Experiment::find("fig7", Profile::Smoke).unwrap_err().to_string();
        assert!(error.ends_with("`fig7-attribute`, `fig7-call` or `fig7-later`?"), "{error}");
        let error = Experiment::find("../x", Profile::Smoke).unwrap_err().to_string();
        assert!(error.starts_with("experiment \"../x\" is no name"), "{error}");
        assert!(error.ends_with("; the path of a manifest ends with `.toml`"), "{error}");
    }
}
