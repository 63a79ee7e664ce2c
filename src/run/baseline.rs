//! Baselines: `baselines/NAME.toml`, or `baselines/NAME/baseline.toml` for one in another language, and
//! what may be put behind a name with `+`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::manifest::{Profile, merged};
use super::receipt;
use crate::check;
use crate::error::{UserError, did_you_mean};
use crate::generators::external::{self, Limits, Program};
use crate::generators::{self, Decoding};
use crate::manifests::Kind;
use crate::toml_file;

/// Manifests of baselines.
pub const BASELINES: Kind =
    Kind { what: "baseline", folders: &["baselines"], inside: Some(FOLDER_MANIFEST) };
/// Manifest of a baseline that is a folder.
const FOLDER_MANIFEST: &str = "baseline.toml";

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
/// Most modifiers behind a name.
const MAX_MODIFIERS: usize = 16;
/// Most trainings that go on from one another.
const MAX_STARTS: usize = 16;
/// Most snapshots of a training.
const MAX_SNAPSHOTS: u32 = 1_000;
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
        Self::find_before(name, profile, &mut Vec::new())
    }

    /// As [`Baseline::find`], for the training that all of `later` go on from, the last of them first.
    fn find_before(name: &str, profile: Profile, later: &mut Vec<Link>) -> Result<Self> {
        let mut parts = name.split('+');
        let plain = parts.next().unwrap_or_default();
        if name.matches('+').count() > MAX_MODIFIERS {
            let message = format!("`{plain}+…` has more than {MAX_MODIFIERS} modifiers");
            return Err(UserError::setting(message).into());
        }
        let mut baseline = Self::read(plain, profile, later)?;
        for modifier in parts {
            baseline.modify(modifier)?;
        }
        name.clone_into(&mut baseline.name);
        generators::recipe(&baseline.generator, &baseline.settings)
            .map_err(|error| error.context(format!("baseline `{name}`")))?;
        Ok(baseline)
    }

    fn read(name: &str, profile: Profile, later: &mut Vec<Link>) -> Result<Self> {
        let source = BASELINES.find(name)?;
        let link = Link::new(name, &source.path);
        link.check(later)?;
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
        later.push(link);
        let starts_from = match file.starts_from {
            Some(start) => Some(Box::new(Start {
                baseline: Self::find_before(&start.baseline, profile, later)?,
                dataset: start.dataset,
                lesson: None,
            })),
            None => None,
        };
        later.pop();
        let snapshots = overrides.snapshots.unwrap_or(file.snapshots);
        let select = overrides.select.unwrap_or(file.select);
        check_label(&source.path, &file.label)?;
        for (key, count) in [("snapshots", snapshots), ("select", select)] {
            check::within(key, count, 0..=MAX_SNAPSHOTS).map_err(|message| {
                UserError::input(&source.path, format!("profile {}", profile.as_str()), message)
            })?;
        }
        Ok(Self {
            name: name.to_owned(),
            generator: file.generator,
            label: file.label,
            source: file.source,
            network: file.network,
            snapshots,
            select,
            starts_from,
            settings,
            decoding: Decoding::Free,
        })
    }

    /// A baseline in another language: `text` is the content of its manifest at `path`.
    fn external(name: &str, path: &Path, text: &str, profile: Profile) -> Result<Self> {
        let file: ExternalFile = toml_file::parse(path, text)?;
        check_label(path, &file.label)?;
        let of_file = |message| UserError::setting(format!("{}: {message}", path.display()));
        file.limits.check().map_err(of_file)?;
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
}

/// Rows of tables are told apart by their labels.
fn check_label(path: &Path, label: &str) -> Result<(), UserError> {
    match label.trim().is_empty() {
        true => Err(UserError::input(path, "label", "is empty: tables name the row by it")),
        false => Ok(()),
    }
}

/// A baseline in a chain of trainings that go on from one another.
struct Link {
    name: String,
    manifest: PathBuf,
    /// The manifest, by whatever name it was found.
    file: PathBuf,
}

impl Link {
    fn new(name: &str, manifest: &Path) -> Self {
        let file = manifest.canonicalize().unwrap_or_else(|_| manifest.to_owned());
        Self { name: name.to_owned(), manifest: manifest.to_owned(), file }
    }

    /// Whether this one can come before `later`.
    ///
    /// # Errors
    /// A chain that closes to a circle, with all its names, or one without an end.
    fn check(&self, later: &[Self]) -> Result<(), UserError> {
        if let Some(first) = later.iter().position(|link| link.file == self.file) {
            let names = later[first..].iter().chain([self]).map(|link| link.name.as_str());
            let circle = names.collect::<Vec<_>>().join(" → ");
            let message =
                format!("goes round in a circle: {circle}; one of them must start from nothing");
            return Err(UserError::input(&later[first].manifest, "starts_from", message));
        }
        match later.first() {
            Some(last) if later.len() >= MAX_STARTS => {
                let message = format!("more than {MAX_STARTS} trainings go on from one another");
                Err(UserError::input(&last.manifest, "starts_from", message))
            }
            _ => Ok(()),
        }
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

    /// Baselines of a folder of their own, named by their paths.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).to_str().expect("UTF-8").to_owned()
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.path(name);
            std::fs::create_dir_all(Path::new(&path).parent().expect("a folder")).expect("made");
            std::fs::write(&path, text).expect("written");
            path
        }

        /// A baseline that starts from another.
        fn starting(&self, name: &str, from: &str) -> String {
            let text = format!(
                "generator = \"resample\"\nlabel = \"X\"\nsource = \"x\"\n[starts_from]\nbaseline = {from:?}\n"
            );
            self.write(name, &text)
        }
    }

    #[test]
    fn trainings_that_start_from_one_another_are_refused() {
        let folder = Folder::new();
        let [a, b, c] = ["a.toml", "b.toml", "c.toml"].map(|name| folder.path(name));
        folder.starting("a.toml", &b);
        folder.starting("b.toml", &c);
        folder.starting("c.toml", &a);
        let error = find(&a).unwrap_err();
        assert_eq!(
            error,
            format!(
                "{a}: starts_from: goes round in a circle: {a} → {b} → {c} → {a}; one of them must start from nothing"
            )
        );
        // With modifiers, or from outside of the circle, or by another name, it is the same one.
        folder.starting("b.toml", &format!("{c}+rejection"));
        assert!(find(&b).unwrap_err().contains("goes round in a circle"));
        let outside = folder.starting("outside.toml", &a);
        let error = find(&outside).unwrap_err();
        assert!(error.starts_with(&format!("{a}: starts_from: ")), "{error}");
        let itself = folder.path("itself.toml");
        folder.starting("itself.toml", &format!("{}/./itself.toml", folder.path("")));
        assert!(find(&itself).unwrap_err().contains("goes round in a circle"));
        // Long, but not round.
        for index in 0..20 {
            let next = folder.path(&format!("long-{}.toml", index + 1));
            folder.starting(&format!("long-{index}.toml"), &next);
        }
        folder.starting("long-20.toml", "resample");
        let error = find(&folder.path("long-0.toml")).unwrap_err();
        assert!(error.contains("more than 16 trainings go on from one another"), "{error}");
        let fine = find(&folder.path("long-15.toml")).expect("six trainings");
        assert_eq!(fine.starts_from.expect("a start").baseline.name, folder.path("long-16.toml"));
        let many = format!("recursive-llm{}", "+taught".repeat(20));
        assert!(find(&many).unwrap_err().contains("more than 16 modifiers"));
    }

    #[test]
    fn limits_outside_their_range_are_refused_by_key() {
        let folder = Folder::new();
        let limit = |key: &str, value: &str| {
            let text = format!(
                "label = \"X\"\nsource = \"x\"\ncommand = [\"true\"]\n[limits]\n{key} = {value}\n"
            );
            find(&folder.write("mine/baseline.toml", &text)).map(|_| ())
        };
        for key in ["build", "fit", "answer", "end", "memory"] {
            // The last is more than TOML has, and fits into the number's type.
            for value in ["31536000000", "0", "9223372036854775807", "9223372036854775808"] {
                let error = limit(key, value).unwrap_err();
                let words = format!("baseline.toml: limits.{key} = {value}: must be from 1 to ");
                assert!(error.contains(&words), "{error}");
            }
            // Not even of the right type.
            for value in ["-1", "0.5", "18446744073709551616", "\"long\""] {
                let error = limit(key, value).unwrap_err();
                assert!(error.contains("baseline.toml: line 5"), "{key} = {value}: {error}");
            }
            assert_eq!(limit(key, "1"), Ok(()));
            assert_eq!(limit(key, "31536000"), Ok(()));
        }
    }

    /// What is a number, in any baseline that there is, is refused or read; nothing panics.
    #[test]
    fn numbers_of_any_size_are_read_or_refused() {
        for name in BASELINES.names() {
            let Ok(baseline) = find(&name) else { continue };
            let numbers = baseline.settings.iter().filter(|(_, value)| {
                matches!(value, toml::Value::Integer(_) | toml::Value::Float(_))
            });
            for (key, _) in numbers {
                for value in ["9223372036854775807", "-9223372036854775808", "0", "nan", "-inf"] {
                    let _ = find(&format!("{name}+{key}={value}"));
                }
            }
        }
        let sizes = [
            ("recursive-llm", "tokens"),
            ("recursive-llm", "batch_tokens"),
            ("recursive-llm", "micro_batch_tokens"),
            ("recursive-llm", "context"),
            ("recursive-llm", "epochs"),
            ("graph-rnn", "steps"),
            ("graph-rnn", "epochs"),
            ("graph-rnn", "batch"),
            ("digress", "steps"),
            ("digress", "batch_pairs"),
            ("tvae", "steps"),
            ("tvae", "batch"),
            ("tvae", "draws"),
            ("tvae", "max_values"),
            ("markov", "max_calls"),
            ("probabilistic", "max_calls"),
            ("sibling-sets", "max_calls"),
            ("in-context-smollm2", "max_tokens"),
            ("in-context-smollm2", "examples"),
        ];
        for (name, key) in sizes {
            for value in ["4294967295", "9223372036854775807"] {
                // Tokens of a training may be more than 32 bits count.
                if (key, value) != ("tokens", "4294967295") {
                    let error = find(&format!("{name}+{key}={value}")).unwrap_err();
                    let known = error.contains(key) || error.contains("u32");
                    assert!(known, "{name}+{key}={value}: {error}");
                }
            }
        }
        let folder = Folder::new();
        let text = "generator = \"resample\"\nlabel = \"X\"\nsource = \"x\"\nKEY = 4294967295\n";
        for key in ["snapshots", "select"] {
            let error = find(&folder.write("x.toml", &text.replace("KEY", key))).unwrap_err();
            let words = format!("profile quick: {key} = 4294967295: must be from 0 to 1000");
            assert!(error.contains(&words), "{error}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../resample", "/resample", "a/b", "", "..", "resample/", "nul"] {
            let error = find(name).unwrap_err();
            assert!(error.starts_with(&format!("baseline {name:?} is no name")), "{error}");
        }
        let folder = Folder::new();
        let text = "generator = \"resample\"\nlabel = \" \"\nsource = \"x\"\n";
        let error = find(&folder.write("x.toml", text)).unwrap_err();
        assert!(error.contains("label: is empty"), "{error}");
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
