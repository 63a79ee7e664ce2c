//! Baselines: `baselines/NAME.toml`, or `baselines/NAME/baseline.toml` for one in another language, and
//! what may be put behind a name with `+`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::facts;
use super::manifest::{FOLDER_MANIFEST, Profile, find, merged, names};
use super::receipt;
use crate::error::{UserError, did_you_mean};
use crate::generators::external::{self, Limits, Program};
use crate::generators::{self, Decoding};
use crate::toml_file;

/// A baseline as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineFile {
    generator: String,
    label: String,
    source: String,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    snapshots: u32,
    #[serde(default)]
    select: u32,
    starts_from: Option<StartFile>,
    #[serde(default)]
    settings: toml::Table,
    #[serde(default)]
    profiles: BTreeMap<Profile, BaselineProfile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartFile {
    baseline: String,
    dataset: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineProfile {
    #[serde(default)]
    settings: toml::Table,
    snapshots: Option<u32>,
    select: Option<u32>,
}

/// A baseline in another language as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalFile {
    label: String,
    source: String,
    #[serde(default)]
    network: bool,
    command: Vec<String>,
    #[serde(default)]
    build: Vec<Vec<String>>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    settings: toml::Table,
    #[serde(default)]
    profiles: BTreeMap<Profile, BaselineProfile>,
}

/// A baseline with one profile applied: a generator and its settings.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// As experiments name it, modifiers included.
    pub name: String,
    /// Id in the registry of generators.
    pub generator: String,
    /// What tables and figures call it.
    pub label: String,
    /// Where the method is published.
    pub source: String,
    /// Whether it runs a neural network: it then uses the chosen device and several threads.
    pub network: bool,
    /// How many snapshots it saves during training, the final model included.
    pub snapshots: u32,
    /// How many of the last snapshots compete for being the trained model, by their accuracy on
    /// training graphs that were held out; below 2 the final model is taken.
    pub select: u32,
    /// The training that this one goes on from.
    pub starts_from: Option<Box<Start>>,
    pub settings: toml::Table,
    pub decoding: Decoding,
}

/// What a training starts from: another one.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub baseline: Baseline,
    /// Dataset of that training; absent for the same one.
    pub dataset: Option<String>,
    /// What the trained model adds to the graphs of the training that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lesson: Option<Lesson>,
}

/// Requests whose answers a model teaches to the training that goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lesson {
    pub max_edges: u32,
    pub max_depth: u32,
}

/// What may stand behind a `+`, besides `KEY=VALUE`.
const MODIFIERS: [&str; 4] = ["constrained", "rejection", "sim-to-real", "taught"];
/// Attempts that `+rejection` makes per prompt.
const ATTEMPTS: u32 = 8;
/// What `+taught` teaches: beyond the paper's grid (30 edges, depth 6), so that its rim is no limit.
const LESSON: Lesson = Lesson { max_edges: 40, max_depth: 8 };

impl Baseline {
    /// The baseline `name` with `profile`. A name may be followed by modifiers: `+constrained` decodes
    /// under the format's constraints, `+rejection` tries up to eight times, `+sim-to-real` spends
    /// half of the training tokens on the simulator's graphs first, `+taught` goes on for half as many
    /// tokens with its own constrained answers among the graphs, `+KEY=VALUE` changes a setting.
    ///
    /// # Errors
    /// An unknown baseline or modifier, an invalid file, an unknown generator or settings it does not
    /// take.
    pub fn find(name: &str, profile: Profile) -> Result<Self> {
        let mut parts = name.split('+');
        let plain = parts.next().unwrap_or_default();
        let mut baseline = Self::read(plain, profile)?;
        for modifier in parts {
            baseline.modify(modifier)?;
        }
        name.clone_into(&mut baseline.name);
        generators::recipe(&baseline.generator, &baseline.settings)
            .map_err(|error| error.context(format!("baseline `{name}`")))?;
        Ok(baseline)
    }

    fn read(name: &str, profile: Profile) -> Result<Self> {
        let source = find("baseline", "baselines", facts::BASELINES, name)?;
        if source.path.ends_with(FOLDER_MANIFEST) {
            return Self::external(name, &source.path, &source.text, profile);
        }
        let file: BaselineFile = toml_file::parse(&source.path, &source.text)?;
        let overrides = file.profiles.get(&profile).cloned().unwrap_or_default();
        let settings = merged(&file.settings, &overrides.settings);
        generators::recipe(&file.generator, &settings).map_err(|error| {
            match error.downcast_ref::<toml::de::Error>() {
                Some(toml) => toml_file::explain(&source.path, &source.text, toml).into(),
                None => error.context(source.path.display().to_string()),
            }
        })?;
        let starts_from = match file.starts_from {
            Some(start) if start.baseline == name => {
                let message = "a baseline cannot start from itself; `+sim-to-real` can".to_owned();
                return Err(UserError::input(&source.path, "starts_from", message).into());
            }
            Some(start) => Some(Box::new(Start {
                baseline: Self::find(&start.baseline, profile)?,
                dataset: start.dataset,
                lesson: None,
            })),
            None => None,
        };
        Ok(Self {
            name: name.to_owned(),
            generator: file.generator,
            label: file.label,
            source: file.source,
            network: file.network,
            snapshots: overrides.snapshots.unwrap_or(file.snapshots),
            select: overrides.select.unwrap_or(file.select),
            starts_from,
            settings,
            decoding: Decoding::Free,
        })
    }

    /// A baseline in another language: `text` is the content of its manifest at `path`.
    fn external(name: &str, path: &Path, text: &str, profile: Profile) -> Result<Self> {
        let file: ExternalFile = toml_file::parse(path, text)?;
        let overrides = file.profiles.get(&profile).cloned().unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        let program = Program {
            receipt: receipt::of(&folder)?,
            folder,
            command: file.command,
            build: file.build,
            limits: file.limits,
            settings: merged(&file.settings, &overrides.settings),
        };
        let settings = toml::Table::try_from(program)?;
        generators::recipe(external::ID, &settings)
            .map_err(|error| error.context(path.display().to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            generator: external::ID.to_owned(),
            label: file.label,
            source: file.source,
            network: file.network,
            snapshots: 0,
            select: 0,
            starts_from: None,
            settings,
            decoding: Decoding::Free,
        })
    }

    fn modify(&mut self, modifier: &str) -> Result<()> {
        let wrong = |message: String| Err(UserError::setting(message).into());
        let name = &self.name;
        if let Some((key, value)) = modifier.split_once('=') {
            let line = format!("{key} = {value}");
            let quoted = || format!("{key} = {value:?}").parse::<toml::Table>();
            let Ok(table) = line.parse::<toml::Table>().or_else(|_| quoted()) else {
                return wrong(format!("`+{modifier}` behind `{name}` is not +KEY=VALUE"));
            };
            let table = match self.generator.as_str() {
                external::ID => [("settings".to_owned(), table.into())].into_iter().collect(),
                _ => table,
            };
            self.settings = merged(&self.settings, &table);
            if let Some(start) = &mut self.starts_from
                && key == "size"
            {
                // A training can only go on from a model of its own shape.
                start.baseline.modify(modifier)?;
            }
            self.label = format!("{}, {key} {value}", self.label);
            return Ok(());
        }
        let trained = matches!(modifier, "sim-to-real" | "taught");
        let held = matches!(modifier, "constrained" | "taught");
        if (held && !generators::takes_constraints(&self.generator)) || (trained && !self.network) {
            return wrong(format!(
                "`{name}` takes no `+{modifier}`: generator `{}` cannot do that",
                self.generator
            ));
        }
        match modifier {
            "constrained" => {
                self.decoding = Decoding::Constrained;
                self.label = format!("{}, constrained", self.label);
            }
            "rejection" => {
                self.decoding = Decoding::Rejection { attempts: ATTEMPTS };
                self.label = format!("{}, up to {ATTEMPTS} attempts", self.label);
            }
            "sim-to-real" => self.simulate_first()?,
            "taught" => self.teach()?,
            _ => {
                let hint = did_you_mean(modifier, MODIFIERS);
                let known = MODIFIERS.map(|known| format!("+{known}")).join(", ");
                return wrong(format!(
                    "`{name}` takes no `+{modifier}`{hint}; known: {known}, +KEY=VALUE"
                ));
            }
        }
        Ok(())
    }

    /// Half of the training tokens go to the simulator's graphs, and the rest to the dataset's. Where one
    /// training goes on from another, that is so of the first.
    fn simulate_first(&mut self) -> Result<()> {
        if let Some(start) = &mut self.starts_from
            && start.dataset.is_none()
        {
            start.baseline.simulate_first()?;
            self.label = format!("{}, simulator first", self.label);
            return Ok(());
        }
        let tokens = self.settings.get("tokens").and_then(toml::Value::as_integer);
        let (Some(tokens), None) = (tokens, &self.starts_from) else {
            let name = &self.name;
            let message = format!(
                "`{name}` takes no `+sim-to-real`: it has no `tokens` in its settings, or it starts from another dataset already"
            );
            return Err(UserError::setting(message).into());
        };
        self.settings.insert("tokens".into(), (tokens / 2).into());
        let baseline = Self { snapshots: 0, select: 0, ..self.clone() };
        let dataset = Some("simulator".to_owned());
        self.starts_from = Some(Box::new(Start { baseline, dataset, lesson: None }));
        self.label = format!("{}, simulator first", self.label);
        Ok(())
    }

    /// The whole training, then half as many tokens on the dataset's graphs and about as many calls
    /// of graphs of all shapes that the model itself answered with under constraints.
    fn teach(&mut self) -> Result<()> {
        let Some(tokens) = self.settings.get("tokens").and_then(toml::Value::as_integer) else {
            let name = &self.name;
            let message =
                format!("`{name}` takes no `+taught`: it has no `tokens` in its settings");
            return Err(UserError::setting(message).into());
        };
        let baseline = self.clone();
        self.settings.insert("tokens".into(), (tokens / 2).into());
        self.starts_from = Some(Box::new(Start { baseline, dataset: None, lesson: Some(LESSON) }));
        self.label = format!("{}, taught", self.label);
        Ok(())
    }

    /// Names of all baselines, sorted.
    pub fn names() -> Vec<String> {
        names("baselines", facts::BASELINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Result<Baseline, String> {
        Baseline::find(name, Profile::Quick).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn modifiers_change_a_baseline() {
        let plain = find("recursive-llm").unwrap();
        let constrained = find("recursive-llm+constrained").unwrap();
        assert_eq!(constrained.decoding, Decoding::Constrained);
        assert_eq!(constrained.settings, plain.settings);
        assert_eq!(constrained.label, format!("{}, constrained", plain.label));
        let larger = find("recursive-llm+size=m+constrained").unwrap();
        assert_eq!(larger.settings["size"].as_str(), Some("m"));
        let sim = find("recursive-llm+sim-to-real").unwrap();
        let tokens = |baseline: &Baseline| baseline.settings["tokens"].as_integer().unwrap();
        let start = sim.starts_from.as_ref().expect("starts from the simulator");
        assert_eq!(start.dataset.as_deref(), Some("simulator"));
        assert_eq!(tokens(&sim) + tokens(&start.baseline), tokens(&plain));
        // Behind a training that goes on from another one, it is the first that changes.
        let tuned = find("recursive-instruction-llm").unwrap();
        let sim_tuned = find("recursive-instruction-llm+sim-to-real").unwrap();
        assert_eq!(tokens(&sim_tuned), tokens(&tuned));
        let base = &sim_tuned.starts_from.as_ref().expect("starts from a base").baseline;
        let first = base.starts_from.as_ref().expect("the base starts from the simulator");
        assert_eq!(first.dataset.as_deref(), Some("simulator"));
        assert_eq!(tokens(base) + tokens(&first.baseline), tokens(&plain));
        let taught = find("recursive-llm+taught").unwrap();
        let start = taught.starts_from.as_ref().expect("starts from itself");
        assert_eq!((start.lesson, &start.baseline.settings), (Some(LESSON), &plain.settings));
        assert_eq!(tokens(&taught), tokens(&plain) / 2);
        let tuned = find("recursive-instruction-llm+size=m").unwrap();
        let start = &tuned.starts_from.as_ref().expect("a base").baseline;
        assert_eq!(start.settings["size"].as_str(), Some("m"));
    }

    #[test]
    fn modifiers_that_cannot_be_are_refused_with_the_remedy() {
        for (name, words) in [
            ("recursive-llm+constraint", "did you mean `constrained`"),
            ("recursive-llm+sise=m", "sise"),
            ("recursive-llm+size=huge", "huge"),
            ("resample+constrained", "generator `resample` cannot"),
            ("markov+sim-to-real", "generator `markov` cannot"),
            ("in-context-smollm2+taught", "generator `in-context` cannot"),
            ("recursive-llm+sim-to-real+sim-to-real", "starts from another dataset already"),
            ("recursive-lm+constrained", "did you mean `recursive-llm`"),
        ] {
            let error = find(name).unwrap_err();
            assert!(error.contains(words), "{name}: {error}");
        }
    }
}
