//! Baselines: `baselines/NAME.toml`, or `baselines/NAME/baseline.toml` for one in another language. A file may
//! extend another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::manifest::Profile;
use super::receipt;
use super::variant::{DecodingFile, SelfTraining, SimulatorFirst, Variant, refuse_plus};
use crate::error::UserError;
use crate::generators::external::{self, Limits, Program};
use crate::generators::{self, Decoding};
use crate::manifests::Kind;
use crate::toml_file::merged;
use crate::{check, toml_file};

/// Manifests of baselines.
pub const BASELINES: Kind =
    Kind { what: "baseline", folders: &["baselines"], inside: Some(FOLDER_MANIFEST) };
/// Manifest of a baseline that is a folder.
const FOLDER_MANIFEST: &str = "baseline.toml";

/// A baseline as its file says it. What one does not say is said by the one that it extends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineFile {
    #[serde(rename = "extends")]
    _extends: Option<String>,
    generator: Option<String>,
    label: Option<String>,
    source: Option<String>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    checkpoints: u32,
    #[serde(default)]
    checkpoint_selection: u32,
    decoding: Option<DecodingFile>,
    starts_from: Option<StartFile>,
    simulator_first: Option<SimulatorFirst>,
    self_training: Option<SelfTraining>,
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
    checkpoints: Option<u32>,
    checkpoint_selection: Option<u32>,
}

/// A baseline in another language as its file says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalFile {
    #[serde(rename = "extends")]
    _extends: Option<String>,
    label: Option<String>,
    source: Option<String>,
    #[serde(default)]
    network: bool,
    decoding: Option<DecodingFile>,
    command: Option<Vec<String>>,
    #[serde(default)]
    build: Vec<Vec<String>>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    settings: toml::Table,
    #[serde(default)]
    profiles: BTreeMap<Profile, BaselineProfile>,
}

impl ExternalFile {
    /// Checks the text of one file, whatever it extends.
    fn check(path: &Path, text: &str) -> Result<(), UserError> {
        let of_file = |message| UserError::setting(format!("{}: {message}", path.display()));
        toml_file::parse::<Self>(path, text)?.limits.check().map_err(of_file)
    }
}

/// A baseline with one profile applied: a generator and its settings.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// As results name it: [`Variant::name`].
    pub name: String,
    /// Id in the registry of generators.
    pub generator: String,
    /// What tables and figures call it.
    pub label: String,
    /// Where the method is published.
    pub source: String,
    /// Whether it runs a neural network: it then uses the chosen device and several threads.
    pub network: bool,
    /// How many checkpoints it saves during training, the final model included.
    pub checkpoints: u32,
    /// How many of the last checkpoints compete for being the trained model, by their accuracy on
    /// training graphs that were held out; below 2 the final model is taken.
    pub checkpoint_selection: u32,
    /// The training that this one goes on from.
    pub starts_from: Option<Box<Start>>,
    pub settings: toml::Table,
    pub decoding: Decoding,
    #[serde(skip)]
    simulator_first: Option<SimulatorFirst>,
    #[serde(skip)]
    self_training: Option<SelfTraining>,
}

/// What a training starts from: another one.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub baseline: Baseline,
    /// Dataset of that training; absent for the same one.
    pub dataset: Option<String>,
    /// What the trained model adds to the graphs of the training that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTrainingRequests>,
}

/// Requests whose answers under constraints are training graphs of the training that goes on from a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SelfTrainingRequests {
    pub max_edges: u32,
    pub max_depth: u32,
}

/// Most files that extend one another or trainings that go on from one another.
const MAX_LINKS: usize = 16;
/// Most checkpoints of a training.
const MAX_CHECKPOINTS: u32 = 1_000;
/// Most attempts for a prompt.
const MAX_ATTEMPTS: u32 = 1_000;
/// Most edges and depth of the requests of self-training.
const MAX_SHAPE: u32 = 1_000;
/// Most tokens of a second training, as a fraction of those of the first.
const MAX_FRACTION: f64 = 10.0;

impl Baseline {
    /// The baseline `name` with `profile`.
    ///
    /// # Errors
    /// As [`Baseline::of`].
    pub fn find(name: &str, profile: Profile) -> Result<Self> {
        Self::of(&Variant::plain(name), profile)
    }

    /// The baseline of a `variant`, with its changes and `profile`.
    ///
    /// # Errors
    /// An unknown baseline, an invalid file, an unknown generator, or settings or a decoding that it does
    /// not take.
    pub fn of(variant: &Variant, profile: Profile) -> Result<Self> {
        Self::found(variant, profile, &mut Vec::new())
    }

    /// As [`Baseline::of`], where all of `chain` lead to it, the first of them first.
    fn found(variant: &Variant, profile: Profile, chain: &mut Vec<Link>) -> Result<Self> {
        let mut baseline = Self::read(&variant.baseline, profile, chain)?;
        baseline.set(&variant.set);
        baseline.decoding = variant.decoding.map_or(baseline.decoding, Decoding::from);
        let Self { simulator_first, self_training, .. } = &mut baseline;
        if let Some(changed) = &variant.simulator_first {
            *simulator_first = Some(changed.clone());
        }
        *self_training = variant.self_training.or(*self_training);
        let (simulator_first, self_training) = (simulator_first.take(), self_training.take());
        baseline.name = variant.name();
        baseline.label = variant.label(&baseline.label);
        baseline.check(simulator_first.as_ref(), self_training)?;
        if let Some(first) = simulator_first {
            baseline.simulate_first(&first)?;
        }
        if let Some(training) = self_training {
            baseline.self_train(training)?;
        }
        generators::recipe(&baseline.generator, &baseline.settings)
            .map_err(|error| error.context(format!("baseline `{}`", baseline.name)))?;
        Ok(baseline)
    }

    fn read(name: &str, profile: Profile, chain: &mut Vec<Link>) -> Result<Self> {
        let manifest = Manifest::read(name, chain)?;
        let Manifest { path, text, table, program, .. } = &manifest;
        if let Some(folder) = program {
            return Self::external(name, &manifest, folder, profile);
        }
        let file: BaselineFile = toml_file::from_table(path, text, table)?;
        let generator = said(path, "generator", file.generator)?;
        let overrides = file.profiles.get(&profile).cloned().unwrap_or_default();
        let settings = merged(&file.settings, &overrides.settings);
        generators::recipe(&generator, &settings).map_err(|error| {
            match error.downcast_ref::<toml::de::Error>() {
                Some(toml) => toml_file::explain(path, text, toml).into(),
                None => error.context(path.display().to_string()),
            }
        })?;
        let starts_from = match file.starts_from {
            Some(start) => {
                chain.push(manifest.link.by("starts_from"));
                let baseline = Self::found(&Variant::plain(&start.baseline), profile, chain)?;
                chain.pop();
                Some(Box::new(Start { baseline, dataset: start.dataset, self_training: None }))
            }
            None => None,
        };
        let checkpoints = overrides.checkpoints.unwrap_or(file.checkpoints);
        let checkpoint_selection =
            overrides.checkpoint_selection.unwrap_or(file.checkpoint_selection);
        for (key, count) in
            [("checkpoints", checkpoints), ("checkpoint_selection", checkpoint_selection)]
        {
            check::within(key, count, 0..=MAX_CHECKPOINTS).map_err(|message| {
                UserError::input(path, format!("profile {}", profile.as_str()), message)
            })?;
        }
        Ok(Self {
            name: name.to_owned(),
            generator,
            label: label(path, file.label)?,
            source: said(path, "source", file.source)?,
            network: file.network,
            checkpoints,
            checkpoint_selection,
            starts_from,
            settings,
            decoding: file.decoding.map_or(Decoding::Free, Decoding::from),
            simulator_first: file.simulator_first,
            self_training: file.self_training,
        })
    }

    /// A baseline in another language, whose program is in `folder`.
    fn external(name: &str, manifest: &Manifest, folder: &Path, profile: Profile) -> Result<Self> {
        let Manifest { path, text, table, .. } = manifest;
        let file: ExternalFile = toml_file::from_table(path, text, table)?;
        let overrides = file.profiles.get(&profile).cloned().unwrap_or_default();
        let program = Program {
            receipt: receipt::of(folder)?,
            folder: folder.to_owned(),
            command: said(path, "command", file.command)?,
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
            label: label(path, file.label)?,
            source: said(path, "source", file.source)?,
            network: file.network,
            checkpoints: 0,
            checkpoint_selection: 0,
            starts_from: None,
            settings,
            decoding: file.decoding.map_or(Decoding::Free, Decoding::from),
            simulator_first: None,
            self_training: None,
        })
    }

    /// Puts `changes` over the settings.
    fn set(&mut self, changes: &toml::Table) {
        let table = match self.generator.as_str() {
            external::ID => [("settings".to_owned(), changes.clone().into())].into_iter().collect(),
            _ => changes.clone(),
        };
        self.settings = merged(&self.settings, &table);
        if let (Some(start), Some(size)) = (&mut self.starts_from, changes.get("size")) {
            // A training can only go on from a model of its own shape.
            start.baseline.set(&[("size".to_owned(), size.clone())].into_iter().collect());
        }
    }

    /// # Errors
    /// What the generator cannot do, or a number that cannot be.
    fn check(
        &self,
        simulator_first: Option<&SimulatorFirst>,
        self_training: Option<SelfTraining>,
    ) -> Result<(), UserError> {
        let Self { name, generator, .. } = self;
        let constrained = generators::takes_constraints(generator);
        let cannot = [
            ("decoding = \"constrained\"", self.decoding == Decoding::Constrained && !constrained),
            ("simulator_first", simulator_first.is_some() && !self.network),
            ("self_training", self_training.is_some() && !(self.network && constrained)),
        ];
        if let Some((key, _)) = cannot.iter().find(|(_, cannot)| *cannot) {
            return Err(UserError::setting(format!(
                "`{name}` takes no `{key}`: generator `{generator}` cannot do that"
            )));
        }
        let in_range = || {
            if let Decoding::Rejection { attempts } = self.decoding {
                check::within("decoding.rejection", attempts, 1..=MAX_ATTEMPTS)?;
            }
            if let Some(first) = simulator_first {
                check::within("simulator_first.fraction", first.fraction, 0.0..=1.0)?;
            }
            if let Some(SelfTraining { max_edges, max_depth, fraction }) = self_training {
                check::within("self_training.max_edges", max_edges, 1..=MAX_SHAPE)?;
                check::within("self_training.max_depth", max_depth, 1..=MAX_SHAPE)?;
                check::within("self_training.fraction", fraction, 0.0..=MAX_FRACTION)?;
            }
            Ok(())
        };
        in_range().map_err(|message: String| UserError::setting(format!("`{name}`: {message}")))
    }

    fn simulate_first(&mut self, first: &SimulatorFirst) -> Result<()> {
        if let Some(start) = &mut self.starts_from
            && start.dataset.is_none()
        {
            return start.baseline.simulate_first(first);
        }
        if self.starts_from.is_some() {
            let name = &self.name;
            let message = format!(
                "`{name}` takes no `simulator_first`: it starts from another dataset already"
            );
            return Err(UserError::setting(message).into());
        }
        let tokens = self.tokens("simulator_first")?;
        let before = (tokens as f64 * first.fraction) as i64;
        let mut baseline = Self { checkpoints: 0, checkpoint_selection: 0, ..self.clone() };
        baseline.name = format!("{} ({})", self.name, first.dataset);
        baseline.settings.insert("tokens".into(), before.into());
        self.settings.insert("tokens".into(), (tokens - before).into());
        let dataset = Some(first.dataset.clone());
        self.starts_from = Some(Box::new(Start { baseline, dataset, self_training: None }));
        Ok(())
    }

    fn self_train(&mut self, training: SelfTraining) -> Result<()> {
        let SelfTraining { max_edges, max_depth, fraction } = training;
        let tokens = self.tokens("self_training")?;
        let mut baseline = self.clone();
        baseline.name = format!("{} (before)", self.name);
        self.settings.insert("tokens".into(), ((tokens as f64 * fraction) as i64).into());
        let self_training = Some(SelfTrainingRequests { max_edges, max_depth });
        self.starts_from = Some(Box::new(Start { baseline, dataset: None, self_training }));
        Ok(())
    }

    /// Tokens of its training, which `key` shares out.
    fn tokens(&self, key: &str) -> Result<i64, UserError> {
        self.settings.get("tokens").and_then(toml::Value::as_integer).ok_or_else(|| {
            let name = &self.name;
            UserError::setting(format!(
                "`{name}` takes no `{key}`: it has no `tokens` in its settings"
            ))
        })
    }
}

/// The value of a key that neither a file nor those that it extends may leave out.
fn said<T>(path: &Path, key: &str, value: Option<T>) -> Result<T, UserError> {
    value.ok_or_else(|| {
        UserError::input(path, "content", format!("missing key `{key}`: write it, or `extends`"))
    })
}

/// Rows of tables are told apart by their labels.
fn label(path: &Path, label: Option<String>) -> Result<String, UserError> {
    let label = said(path, "label", label)?;
    if label.trim().is_empty() {
        Err(UserError::input(path, "label", "is empty: tables name the row by it"))
    } else {
        Ok(label)
    }
}

/// The manifest of a baseline, over those that it extends.
struct Manifest {
    path: PathBuf,
    /// Its own text.
    text: String,
    table: toml::Table,
    /// Folder of the program of a baseline in another language.
    program: Option<PathBuf>,
    link: Link,
}

/// What a manifest says of the one that it extends.
#[derive(Deserialize)]
struct Extension {
    extends: Option<String>,
}

impl Manifest {
    fn read(name: &str, chain: &mut Vec<Link>) -> Result<Self> {
        refuse_plus(name)?;
        let source = BASELINES.find(name)?;
        let (path, text) = (source.path, source.text);
        let link = Link::new(name, &path);
        link.check(chain)?;
        let is_folder = path.ends_with(FOLDER_MANIFEST);
        // Whatever is wrong is told with its line, before anything else reads the file.
        if is_folder {
            ExternalFile::check(&path, &text)?;
        }
        let Extension { extends } = toml_file::parse(&path, &text)?;
        let mut program = is_folder.then(|| path.parent().unwrap_or(Path::new(".")).to_owned());
        let mut below = toml::Table::new();
        if let Some(base) = extends {
            if is_folder {
                let message =
                    "a folder has a program of its own: extend it by a file of baselines/";
                return Err(UserError::input(&path, "extends", message).into());
            }
            chain.push(link.by("extends"));
            let base = Self::read(&base, chain)?;
            chain.pop();
            (below, program) = (base.table, base.program);
        }
        match program {
            Some(_) => ExternalFile::check(&path, &text)?,
            None => drop(toml_file::parse::<BaselineFile>(&path, &text)?),
        }
        let table = merged(&below, &toml_file::parse(&path, &text)?);
        Ok(Self { path, text, table, program, link })
    }
}

/// A baseline in a chain of files that extend one another and trainings that go on from one another.
#[derive(Clone)]
struct Link {
    name: String,
    manifest: PathBuf,
    /// The manifest, by whatever name it was found.
    file: PathBuf,
    /// The key by which it leads to the next.
    key: &'static str,
}

impl Link {
    fn new(name: &str, manifest: &Path) -> Self {
        let file = manifest.canonicalize().unwrap_or_else(|_| manifest.to_owned());
        Self { name: name.to_owned(), manifest: manifest.to_owned(), file, key: "" }
    }

    fn by(&self, key: &'static str) -> Self {
        Self { key, ..self.clone() }
    }

    /// Whether this one can be what `chain` leads to.
    ///
    /// # Errors
    /// A chain that closes to a circle, with all its names, or one without an end.
    fn check(&self, chain: &[Self]) -> Result<(), UserError> {
        if let Some(first) = chain.iter().position(|link| link.file == self.file) {
            let names = chain[first..].iter().chain([self]).map(|link| link.name.as_str());
            let circle = names.collect::<Vec<_>>().join(" → ");
            let Self { key, manifest, .. } = &chain[first];
            let remedy = match *key {
                "extends" => "extend",
                _ => "start from",
            };
            let message =
                format!("goes round in a circle: {circle}; one of them must {remedy} nothing");
            return Err(UserError::input(manifest, *key, message));
        }
        match chain.first() {
            Some(first) if chain.len() >= MAX_LINKS => {
                let what = match first.key {
                    "extends" => "files extend one another",
                    _ => "trainings go on from one another",
                };
                let message = format!("more than {MAX_LINKS} {what}");
                Err(UserError::input(&first.manifest, first.key, message))
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

    fn of(variant: &str) -> Result<Baseline, String> {
        let variant: Variant = toml::from_str(variant).map_err(|error| error.to_string())?;
        Baseline::of(&variant, Profile::Quick).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn variants_change_a_baseline() {
        let plain = find("recursive-llm").unwrap();
        let constrained = of("name = 'recursive-llm'\ndecoding = 'constrained'").unwrap();
        assert_eq!(constrained.decoding, Decoding::Constrained);
        assert_eq!(constrained.settings, plain.settings);
        assert_eq!(constrained.label, format!("{} (constrained)", plain.label));
        assert_eq!(constrained.name, "recursive-llm-constrained");
        let larger = "name = 'recursive-llm'\nset.size = 'm'\ndecoding.rejection = 3";
        let larger = of(larger).unwrap();
        assert_eq!(larger.settings["size"].as_str(), Some("m"));
        assert_eq!(larger.decoding, Decoding::Rejection { attempts: 3 });
        assert_eq!(larger.label, format!("{} (size m; up to 3 attempts)", plain.label));
        let first = "\nsimulator_first = { dataset = 'simulator', fraction = 0.25 }";
        let sim = of(&format!("name = 'recursive-llm'{first}")).unwrap();
        let tokens = |baseline: &Baseline| baseline.settings["tokens"].as_integer().unwrap();
        let start = sim.starts_from.as_ref().expect("starts from the simulator");
        assert_eq!(start.dataset.as_deref(), Some("simulator"));
        assert_eq!(tokens(&start.baseline), tokens(&plain) / 4);
        assert_eq!(tokens(&sim) + tokens(&start.baseline), tokens(&plain));
        // Behind a training that goes on from another one, it is the first that changes.
        let tuned = find("recursive-instruction-llm").unwrap();
        let sim_tuned = of(&format!("name = 'recursive-instruction-llm'{first}")).unwrap();
        assert_eq!(tokens(&sim_tuned), tokens(&tuned));
        let base = &sim_tuned.starts_from.as_ref().expect("starts from a base").baseline;
        let first = base.starts_from.as_ref().expect("the base starts from the simulator");
        assert_eq!(first.dataset.as_deref(), Some("simulator"));
        assert_eq!(tokens(base) + tokens(&first.baseline), tokens(&plain));
        let tuned = of("name = 'recursive-instruction-llm'\nset.size = 'm'").unwrap();
        let start = &tuned.starts_from.as_ref().expect("a base").baseline;
        assert_eq!(start.settings["size"].as_str(), Some("m"));
    }

    #[test]
    fn self_training_follows_the_whole_training() {
        let plain = find("recursive-remaining-counts").unwrap();
        let trained = find("recursive-remaining-counts-self-trained").unwrap();
        let tokens = |baseline: &Baseline| baseline.settings["tokens"].as_integer().unwrap();
        let start = trained.starts_from.as_ref().expect("starts from itself");
        assert_eq!(start.self_training, Some(SelfTrainingRequests { max_edges: 40, max_depth: 8 }));
        assert_eq!(start.baseline.settings, plain.settings);
        assert_eq!(tokens(&trained), tokens(&plain) / 2);
        let longer = "name = 'recursive-remaining-counts-self-trained'\nset.tokens = 8_000_000\nself_training = { max_edges = 9, max_depth = 3, fraction = 0.25 }";
        let longer = of(longer).unwrap();
        let start = longer.starts_from.as_ref().expect("starts from itself");
        assert_eq!(start.self_training, Some(SelfTrainingRequests { max_edges: 9, max_depth: 3 }));
        assert_eq!((tokens(&start.baseline), tokens(&longer)), (8_000_000, 2_000_000));
    }

    #[test]
    fn a_file_says_what_differs_from_the_one_that_it_extends() {
        let folder = Folder::new();
        let base = folder.write(
            "base.toml",
            "generator = \"tvae\"\nlabel = \"Base\"\nsource = \"x\"\nnetwork = true\n[settings]\nsteps = 5\nwidth = 8\n[profiles.quick.settings]\nbatch = 4\n",
        );
        let over = folder.write(
            "over.toml",
            &format!("extends = {base:?}\nlabel = \"Over\"\n[settings]\nwidth = 16\n[profiles.quick.settings]\nsteps = 7\n"),
        );
        let found = find(&over).unwrap();
        assert_eq!((&*found.label, &*found.source, found.network), ("Over", "x", true));
        let setting = |key: &str| found.settings[key].as_integer();
        assert_eq!(["steps", "width", "batch"].map(setting), [7, 16, 4].map(Some));
        // What a file says is told with its line, wherever the rest stands.
        let slip = folder.write("slip.toml", &format!("extends = {base:?}\n\nlabl = \"X\"\n"));
        let error = find(&slip).unwrap_err();
        assert!(error.ends_with("slip.toml: line 3: unknown key `labl` — did you mean `label`?"));
        let wrong = format!("extends = {base:?}\n[settings]\nwidth = \"wide\"\n");
        let error = find(&folder.write("wrong.toml", &wrong)).unwrap_err();
        assert!(error.contains("wrong.toml") && error.contains("wide"), "{error}");
        let error = find(&folder.write("none.toml", "label = \"X\"\n")).unwrap_err();
        assert!(error.contains("none.toml: content: missing key `generator`"), "{error}");
        // In another language: the program is the extended one's.
        let mine = "label = \"Mine\"\nsource = \"x\"\ncommand = [\"true\"]\n[settings]\na = 1\n";
        let mine = folder.write("mine/baseline.toml", mine);
        let more = format!(
            "extends = {mine:?}\nlabel = \"More\"\ndecoding = {{ rejection = 4 }}\n[settings]\na = 2\n"
        );
        let more = find(&folder.write("more.toml", &more)).unwrap();
        let program = external::program(&more.settings).unwrap();
        assert_eq!(program.folder, Path::new(&folder.path("mine")));
        assert_eq!(program.settings["a"].as_integer(), Some(2));
        assert_eq!(more.decoding, Decoding::Rejection { attempts: 4 });
        let folders = folder.write("other/baseline.toml", &format!("extends = {mine:?}\n"));
        assert!(find(&folders).unwrap_err().contains("a folder has a program of its own"));
    }

    #[test]
    fn files_that_extend_one_another_are_refused() {
        let folder = Folder::new();
        let [a, b] = ["a.toml", "b.toml"].map(|name| folder.path(name));
        folder.write("a.toml", &format!("extends = {b:?}\n"));
        folder.write("b.toml", &format!("extends = {a:?}\n"));
        let remedy = format!("{a} → {b} → {a}; one of them must extend nothing");
        let error = find(&a).unwrap_err();
        assert_eq!(error, format!("{a}: extends: goes round in a circle: {remedy}"));
        // By both keys.
        folder.starting("b.toml", &a);
        assert!(find(&a).unwrap_err().contains(&format!("circle: {a} → {a}")));
        for index in 0..20 {
            let next = folder.path(&format!("long-{}.toml", index + 1));
            folder.write(&format!("long-{index}.toml"), &format!("extends = {next:?}\n"));
        }
        folder.write(
            "long-20.toml",
            "generator = \"training-set-copy\"\nlabel = \"X\"\nsource = \"x\"\n",
        );
        let error = find(&folder.path("long-0.toml")).unwrap_err();
        assert!(error.contains("extends: more than 16 files extend one another"), "{error}");
        find(&folder.path("long-15.toml")).expect("six files");
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
                "generator = \"training-set-copy\"\nlabel = \"X\"\nsource = \"x\"\n[starts_from]\nbaseline = {from:?}\n"
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
        // From outside of the circle, or by another name, it is the same one.
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
        folder.starting("long-20.toml", "training-set-copy");
        let error = find(&folder.path("long-0.toml")).unwrap_err();
        assert!(error.contains("more than 16 trainings go on from one another"), "{error}");
        let fine = find(&folder.path("long-15.toml")).expect("six trainings");
        assert_eq!(fine.starts_from.expect("a start").baseline.name, folder.path("long-16.toml"));
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
                    let _ = of(&format!("name = {name:?}\nset.{key} = {value}"));
                }
            }
        }
        let sizes = [
            ("recursive-llm", "tokens"),
            ("recursive-llm", "batch_tokens"),
            ("recursive-llm", "micro_batch_tokens"),
            ("recursive-llm", "context"),
            ("recursive-llm", "epochs"),
            ("graph-rnn-ours", "steps"),
            ("graph-rnn-ours", "epochs"),
            ("graph-rnn-ours", "batch"),
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
                    let variant = format!("name = {name:?}\nset.{key} = {value}");
                    let error = of(&variant).unwrap_err();
                    let known = error.contains(key) || error.contains("u32");
                    assert!(known, "{variant}: {error}");
                }
            }
        }
        let folder = Folder::new();
        let text =
            "generator = \"training-set-copy\"\nlabel = \"X\"\nsource = \"x\"\nKEY = 4294967295\n";
        for key in ["checkpoints", "checkpoint_selection"] {
            let error = find(&folder.write("x.toml", &text.replace("KEY", key))).unwrap_err();
            let words = format!("profile quick: {key} = 4294967295: must be from 0 to 1000");
            assert!(error.contains(&words), "{error}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../markov", "/markov", "a/b", "", "..", "markov/", "nul"] {
            let error = find(name).unwrap_err();
            assert!(error.starts_with(&format!("baseline {name:?} is no name")), "{error}");
        }
        let folder = Folder::new();
        let text = "generator = \"training-set-copy\"\nlabel = \" \"\nsource = \"x\"\n";
        let error = find(&folder.write("x.toml", text)).unwrap_err();
        assert!(error.contains("label: is empty"), "{error}");
    }

    #[test]
    fn changes_that_cannot_be_are_refused_with_the_remedy() {
        let simulator = "simulator_first = { dataset = 'simulator', fraction = 0.5 }";
        let training = "self_training = { max_edges = 9, max_depth = 3, fraction = 0.5 }";
        for (name, change, words) in [
            ("recursive-llm", "decoding = 'constraint'", "constraint"),
            ("recursive-llm", "set.sise = 'm'", "sise"),
            ("recursive-llm", "set.size = 'huge'", "huge"),
            (
                "recursive-llm",
                "decoding.rejection = 0",
                "decoding.rejection = 0: must be from 1 to",
            ),
            (
                "training-set-copy",
                "decoding = 'constrained'",
                "generator `training-set-copy` cannot",
            ),
            ("markov", simulator, "generator `markov` cannot"),
            ("in-context-smollm2", training, "generator `in-context` cannot"),
            ("graph-rnn-ours", simulator, "it has no `tokens` in its settings"),
            ("recursive-llm", &simulator.replace("0.5", "1.5"), "simulator_first.fraction = 1.5"),
            ("recursive-llm", &training.replace('9', "0"), "self_training.max_edges = 0: must be"),
            ("recursive-llm", &training.replace("0.5", "nan"), "self_training.fraction = NaN"),
            ("recursive-lm", "decoding = 'constrained'", "did you mean `recursive-llm`"),
            ("recursive-llm+constrained", "", "a name takes no `+`"),
        ] {
            let error = of(&format!("name = {name:?}\n{change}")).unwrap_err();
            assert!(error.contains(words), "{name} {change}: {error}");
        }
        let folder = Folder::new();
        let other = "generator = \"recursive-llm\"\nlabel = \"X\"\nsource = \"x\"\nnetwork = true\nstarts_from = { baseline = \"recursive-llm\", dataset = \"simulator\" }\n[settings]\ntokens = 9000\n";
        let other = folder.write("other.toml", other);
        let error = of(&format!("name = {other:?}\n{simulator}")).unwrap_err();
        assert!(error.contains("starts from another dataset already"), "{error}");
    }
}
