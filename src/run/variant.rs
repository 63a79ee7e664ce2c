//! Lists of generators: baselines, baselines with changes, and groups of both.
//!
//! `"markov"`, `{ name = "markov", decoding = "constrained" }`, `"@paper"`, or a table whose name is a group, which
//! changes each of its members. Groups are in `experiments/groups.toml`.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{UserError, did_you_mean};
use crate::generators::Decoding;
use crate::manifests;
use crate::number::grouped;
use crate::toml_file::{self, merged};

/// A baseline with what a list of generators changes of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name of the baseline, or its file.
    #[serde(rename = "name")]
    pub baseline: String,
    /// In place of the baseline's label followed by the changes.
    pub label: Option<String>,
    /// Settings put over those of the baseline.
    #[serde(default)]
    pub set: toml::Table,
    pub decoding: Option<DecodingFile>,
    pub simulator_first: Option<SimulatorFirst>,
    pub self_training: Option<SelfTraining>,
}

/// `"free"`, `"constrained"` or `{ rejection = 8 }`: so many attempts for each prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodingFile {
    Free,
    Constrained,
    Rejection(u32),
}

impl From<DecodingFile> for Decoding {
    fn from(decoding: DecodingFile) -> Self {
        match decoding {
            DecodingFile::Free => Self::Free,
            DecodingFile::Constrained => Self::Constrained,
            DecodingFile::Rejection(attempts) => Self::Rejection { attempts },
        }
    }
}

/// A part of the training tokens goes to the graphs of another dataset, before the rest goes to the
/// experiment's. Where one training goes on from another, that is so of the first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatorFirst {
    /// The other dataset.
    pub dataset: String,
    /// The part of the tokens that goes to it.
    pub fraction: f64,
}

/// After the whole training, another one on the dataset's graphs and on about as many calls of graphs that
/// the trained model itself answered with, under constraints, to requests of all shapes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTraining {
    /// Most edges and most depth of the requests.
    pub max_edges: u32,
    pub max_depth: u32,
    /// Tokens of the second training, as a fraction of those of the first.
    pub fraction: f64,
}

impl Variant {
    /// The baseline `name` as it is.
    pub fn plain(name: &str) -> Self {
        Self { baseline: name.to_owned(), ..Self::default() }
    }

    /// What results call it: the baseline's name followed by the changes.
    pub fn name(&self) -> String {
        let mut name = self.baseline.clone();
        for (key, value) in &self.set {
            let _ = write!(name, "-{key}-{}", shown(value).replace('_', ""));
        }
        let decoding = match self.decoding {
            Some(DecodingFile::Free) => "-free".to_owned(),
            Some(DecodingFile::Constrained) => "-constrained".to_owned(),
            Some(DecodingFile::Rejection(attempts)) => format!("-rejection-{attempts}"),
            None => String::new(),
        };
        name.push_str(&decoding);
        name.push_str(self.simulator_first.as_ref().map_or("", |_| "-simulator-first"));
        name.push_str(self.self_training.as_ref().map_or("", |_| "-self-trained"));
        name
    }

    /// The label of it, where the baseline's is `label`.
    pub(super) fn label(&self, label: &str) -> String {
        if let Some(own) = &self.label {
            return own.clone();
        }
        let mut changes = changed_settings(&self.set);
        changes.extend(self.decoding.map(|decoding| match Decoding::from(decoding) {
            Decoding::Free => "free".to_owned(),
            Decoding::Constrained => "constrained".to_owned(),
            Decoding::Rejection { attempts } => format!("up to {attempts} attempts"),
        }));
        changes.extend(self.simulator_first.as_ref().map(|_| "simulator first".to_owned()));
        changes.extend(self.self_training.map(|_| "self-trained".to_owned()));
        qualified(label, &changes)
    }

    /// Changes settings.
    pub fn set(&mut self, settings: &toml::Table) {
        self.set = merged(&self.set, settings);
        if let Some(label) = &mut self.label {
            *label = qualified(label, &changed_settings(settings));
        }
    }

    /// A member of a group with the group's changes put over its own.
    fn over(&self, member: Self) -> Self {
        Self {
            baseline: member.baseline,
            label: member.label,
            set: merged(&member.set, &self.set),
            decoding: self.decoding.or(member.decoding),
            simulator_first: self.simulator_first.clone().or(member.simulator_first),
            self_training: self.self_training.or(member.self_training),
        }
    }
}

impl Serialize for Variant {
    /// By its name: what it changes is in the baseline that it becomes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

fn changed_settings(settings: &toml::Table) -> Vec<String> {
    settings.iter().map(|(key, value)| format!("{key} {}", shown(value))).collect()
}

/// A label with `changes` in parentheses, and no comma in it: lists of labels have commas between them.
fn qualified(label: &str, changes: &[String]) -> String {
    let changes = changes.join("; ");
    match label.strip_suffix(')') {
        _ if changes.is_empty() => label.to_owned(),
        Some(open) => format!("{open}; {changes})"),
        None => format!("{label} ({changes})"),
    }
}

/// A value of a setting as labels show it: 8_000_000 and not 8000000, as it is written in manifests.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) if number.unsigned_abs() >= 10_000 => {
            let sign = if *number < 0 { "-" } else { "" };
            sign.to_owned() + &grouped(number.unsigned_abs(), "_")
        }
        other => other.to_string(),
    }
}

/// Where groups are defined.
const GROUPS: &str = "experiments/groups.toml";

/// The groups of generators, read when one of them is first asked for.
#[derive(Default)]
pub struct Groups(OnceCell<GroupsFile>);

struct GroupsFile {
    text: String,
    groups: IndexMap<String, Vec<toml::Value>>,
}

impl Groups {
    /// The generators that the entries of a list in the manifest at `path` name.
    ///
    /// # Errors
    /// An entry that is neither a name nor a table with the keys of [`Variant`]; an unknown group.
    pub(super) fn listed(
        &self,
        path: &Path,
        text: &str,
        entries: &[toml::Value],
    ) -> Result<Vec<Variant>> {
        self.expand(path, text, entries, &mut Vec::new())
    }

    /// The baseline `name`, or the members of the group `@NAME`.
    ///
    /// # Errors
    /// An unknown group, or a name with a `+`.
    pub fn named(&self, name: &str) -> Result<Vec<Variant>> {
        self.members(name, &mut Vec::new())
    }

    fn file(&self) -> Result<&GroupsFile> {
        if let Some(file) = self.0.get() {
            return Ok(file);
        }
        let path = Path::new(GROUPS);
        let text = if path.exists() {
            std::fs::read_to_string(path)
                .map_err(|error| UserError::io(path, "cannot be read", error))?
        } else {
            manifests::embedded(path).map(|manifest| manifest.text).unwrap_or_default()
        };
        let groups = toml_file::parse(path, &text)?;
        Ok(self.0.get_or_init(|| GroupsFile { text, groups }))
    }

    fn expand(
        &self,
        path: &Path,
        text: &str,
        entries: &[toml::Value],
        within: &mut Vec<String>,
    ) -> Result<Vec<Variant>> {
        let mut variants = Vec::new();
        for entry in entries {
            match entry {
                toml::Value::String(name) => variants.extend(self.members(name, within)?),
                toml::Value::Table(table) => {
                    let change: Variant = toml_file::from_table(path, text, table)?;
                    if change.baseline.starts_with('@') && change.label.is_some() {
                        let message = "one label for all of a group: leave it out";
                        return Err(UserError::input(path, &change.baseline, message).into());
                    }
                    let members = self.members(&change.baseline, within)?;
                    variants.extend(members.into_iter().map(|member| change.over(member)));
                    if let (Some(label), Some(last)) = (&change.label, variants.last_mut()) {
                        last.label = Some(label.clone());
                    }
                }
                other => {
                    let message =
                        format!("{other} is no generator: write a name, or a table with a `name`");
                    return Err(UserError::input(path, "generators", message).into());
                }
            }
        }
        Ok(variants)
    }

    /// As [`Groups::named`], inside the groups `within`.
    fn members(&self, name: &str, within: &mut Vec<String>) -> Result<Vec<Variant>> {
        refuse_plus(name)?;
        let Some(group) = name.strip_prefix('@') else { return Ok(vec![Variant::plain(name)]) };
        let GroupsFile { text, groups } = self.file()?;
        let Some(entries) = groups.get(group) else {
            let hint = did_you_mean(group, groups.keys().map(String::as_str));
            let known: Vec<String> = groups.keys().map(|group| format!("@{group}")).collect();
            let known = known.join(", ");
            let message = format!("group `@{group}` does not exist{hint}; {GROUPS} has {known}");
            return Err(UserError::setting(message).into());
        };
        let path = Path::new(GROUPS);
        if within.iter().any(|one| one == name) {
            let message = "is a member of itself: leave it out of one of its members";
            return Err(UserError::input(path, name, message).into());
        }
        within.push(name.to_owned());
        let variants = self.expand(path, text, entries, within);
        within.pop();
        variants
    }
}

/// # Errors
/// A `+` behind the name of a baseline, with what says the same.
pub(super) fn refuse_plus(name: &str) -> Result<(), UserError> {
    let is_file = Path::new(name).extension().is_some_and(|extension| extension == "toml");
    let Some((plain, _)) = name.split_once('+').filter(|_| !is_file) else { return Ok(()) };
    Err(UserError::setting(format!(
        "`{name}`: a name takes no `+`: a list of generators says {{ name = {plain:?}, KEY = VALUE }} with keys such as \
         `set`, `decoding` and `self_training`; a command says `--with {plain} --set {plain}.KEY=VALUE`, or the \
         name of a baseline whose file `extends` it"
    )))
}

/// `key = value`, where a value that is nothing in TOML is a text.
pub fn assignment(key: &str, value: &str) -> Option<toml::Table> {
    let text = || format!("{key} = {value:?}").parse();
    format!("{key} = {value}").parse().or_else(|_| text()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<Variant>, String> {
        let table: toml::Table = format!("generators = {text}").parse().expect("TOML");
        let entries = table["generators"].as_array().expect("a list");
        Groups::default()
            .listed(Path::new("x.toml"), text, entries)
            .map_err(|error| format!("{error:#}"))
    }

    fn names(variants: &[Variant]) -> Vec<String> {
        variants.iter().map(Variant::name).collect()
    }

    #[test]
    fn entries_are_names_tables_and_groups() {
        let all = list("[\"@all\"]").unwrap();
        assert_eq!(all.len(), 16);
        assert_eq!(all[0], Variant::plain("recursive-instruction-llm"));
        let mixed = list(
            "[\"markov\", { name = \"recursive-llm\", set = { tokens = 600_000, size = \"xs\" } }, { name = \"@texts\", decoding = { rejection = 8 } }]",
        )
        .unwrap();
        let known = names(&mixed);
        assert_eq!(known[..2], ["markov", "recursive-llm-tokens-600000-size-xs"]);
        assert_eq!(known[2], "recursive-instruction-llm-rejection-8");
        assert_eq!(mixed.len(), 8);
        assert_eq!(mixed[1].label("X"), "X (tokens 600_000; size xs)");
        assert_eq!(mixed[2].label("X (y)"), "X (y; up to 8 attempts)");
        for (text, words) in [
            ("[3]", "3 is no generator: write a name, or a table with a `name`"),
            ("[\"@papers\"]", "group `@papers` does not exist — did you mean `paper`?"),
            ("[{ name = \"@all\", label = \"X\" }]", "one label for all of a group"),
            ("[{ name = \"x\", stes = {} }]", "unknown key `stes`; known: name, label, set"),
            ("[{ name = \"x\", decoding = \"constraint\" }]", "did you mean `constrained`?"),
            ("[{ decoding = \"free\" }]", "missing key `name`"),
        ] {
            let error = list(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_plus_is_refused_with_what_says_the_same() {
        let error = list("[\"recursive-llm+size=m\"]").unwrap_err();
        assert!(error.starts_with("`recursive-llm+size=m`: a name takes no `+`: "), "{error}");
        assert!(error.contains("{ name = \"recursive-llm\", KEY = VALUE }"), "{error}");
        assert!(error.contains("`--with recursive-llm --set recursive-llm.KEY=VALUE`"), "{error}");
        assert!(Groups::default().named("a+b/mine.toml").is_ok());
    }
}
