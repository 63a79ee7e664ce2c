//! Manifests by name: TOML files below the working directory, else the copies of them in the binary, which
//! therefore works in any folder.

use std::path::{Component, Path, PathBuf};

use crate::check;
use crate::error::{UserError, did_you_mean};

// `EMBEDDED`: path and text of the repository's manifests.
include!(concat!(env!("OUT_DIR"), "/manifests.rs"));

/// Manifests are a few lines long; anything larger is another file given by mistake.
const MAX_BYTES: u64 = 1 << 20;

/// A kind of manifest.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What messages call one of them.
    pub what: &'static str,
    /// Folders in which they lie.
    pub folders: &'static [&'static str],
    /// Name of the manifest in the folder of one that is a folder itself.
    pub inside: Option<&'static str>,
}

/// A manifest as it was found.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub path: PathBuf,
    pub text: String,
    /// Whether it is the copy in the binary.
    pub is_embedded: bool,
}

impl Kind {
    /// The manifest of a path, which ends with `.toml`, or of a name.
    ///
    /// # Errors
    /// A name that is none, is unknown (with the known ones that it may stand for) or stands for two files;
    /// a file that cannot be read.
    pub fn find(&self, name_or_path: &str) -> Result<Manifest, UserError> {
        let Self { what, .. } = self;
        let given = Path::new(name_or_path);
        if given.extension().is_some_and(|extension| extension == "toml") {
            if given.exists() {
                return read(given);
            }
            let stem = given.file_stem().unwrap_or_default().to_string_lossy();
            return embedded(&as_named(given)).ok_or_else(|| match self.place(&stem) {
                Some(path) => UserError::setting(format!(
                    "{what} {name_or_path} does not exist: `{stem}` is {}",
                    path.display()
                )),
                None => self.unknown(name_or_path, &stem),
            });
        }
        check::name(name_or_path).map_err(|message| {
            let is_path = given.components().count() > 1;
            let remedy = if is_path { "; the path of a manifest ends with `.toml`" } else { "" };
            UserError::setting(format!("{what} {message}{remedy}"))
        })?;
        let files: Vec<PathBuf> =
            self.paths(name_or_path).into_iter().filter(|path| path.exists()).collect();
        match &files[..] {
            [] => {}
            [file] => return read(file),
            [file, other, ..] => {
                return Err(UserError::setting(format!(
                    "{what} `{name_or_path}` is there twice: {} and {}; rename one of them",
                    file.display(),
                    other.display()
                )));
            }
        }
        let copy = self.paths(name_or_path).iter().find_map(|path| embedded(path));
        copy.ok_or_else(|| self.unknown(name_or_path, name_or_path))
    }

    /// Where a manifest of this name can lie.
    fn paths(&self, name: &str) -> Vec<PathBuf> {
        let of_folder = |folder: &&str| {
            let inside = self.inside.map(|file| Path::new(folder).join(name).join(file));
            inside.into_iter().chain([Path::new(folder).join(format!("{name}.toml"))])
        };
        self.folders.iter().flat_map(of_folder).collect()
    }

    /// Where the manifest of this name lies.
    fn place(&self, name: &str) -> Option<PathBuf> {
        self.paths(name).into_iter().find(|path| path.exists() || is_embedded(path))
    }

    fn unknown(&self, given: &str, name: &str) -> UserError {
        let known = self.names();
        let hint = match did_you_mean(name, known.iter().map(String::as_str)) {
            hint if hint.is_empty() => format!("; known: {}", known.join(", ")),
            hint => hint,
        };
        UserError::setting(format!("{} `{given}` does not exist{hint}", self.what))
    }

    /// Names of all manifests, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.folders.iter().flat_map(|folder| self.names_in(folder)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Names of the manifests in one of its folders, sorted.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let stem = |path: &Path| {
            let is_file = path.extension().is_some_and(|extension| extension == "toml");
            path.file_stem().filter(|_| is_file).map(|name| name.to_string_lossy().into_owned())
        };
        let here = |path: &&Path| path.parent() == Some(Path::new(folder));
        let copies = EMBEDDED.iter().map(|(path, _)| Path::new(*path)).filter(here);
        let mut names: Vec<String> = copies.filter_map(stem).collect();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = if self.inside.is_some_and(|file| path.join(file).exists()) {
                // All of it: a dot in the name of a folder begins no ending.
                path.file_name().map(|name| name.to_string_lossy().into_owned())
            } else {
                stem(&path)
            };
            names.extend(name.filter(|name| !name.starts_with('.')));
        }
        names.sort();
        names.dedup();
        names
    }
}

fn read(path: &Path) -> Result<Manifest, UserError> {
    let failed = |error| UserError::io(path, "cannot be read", error);
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(UserError::input(path, "content", "is too large for a manifest"));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(Manifest { path: path.to_owned(), text, is_embedded: false })
}

/// The copy in the binary of the file at `path` in the repository.
pub fn embedded(path: &Path) -> Option<Manifest> {
    let (_, text) = EMBEDDED.iter().find(|(known, _)| path == Path::new(known))?;
    Some(Manifest { path: path.to_owned(), text: (*text).to_owned(), is_embedded: true })
}

/// Whether the binary has a copy of the file at `path` in the repository.
pub fn is_embedded(path: &Path) -> bool {
    EMBEDDED.iter().any(|(known, _)| path == Path::new(known))
}

/// A path as somebody named it, without `./` at its beginning.
pub fn as_named(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPERIMENTS: Kind = Kind {
        what: "experiment",
        folders: &["experiments/paper", "experiments/extensions"],
        inside: None,
    };

    #[test]
    fn manifests_are_found_in_all_folders_of_their_kind() {
        for (name, path) in [
            ("fig3-accuracy", "experiments/paper/fig3-accuracy.toml"),
            ("truth", "experiments/extensions/truth.toml"),
        ] {
            for given in [name, path, &format!("./{path}")] {
                let found = EXPERIMENTS.find(given).unwrap();
                assert_eq!(as_named(&found.path), Path::new(path));
                assert!(
                    !found.is_embedded && embedded(Path::new(path)).unwrap().text == found.text
                );
            }
        }
        let error = |given: &str| EXPERIMENTS.find(given).unwrap_err().to_string();
        assert_eq!(
            error("experiments/fig3-accuracy.toml"),
            "experiment experiments/fig3-accuracy.toml does not exist: `fig3-accuracy` is experiments/paper/fig3-accuracy.toml"
        );
        assert_eq!(
            error("experiments/paper/fig3-acuracy.toml"),
            "experiment `experiments/paper/fig3-acuracy.toml` does not exist — did you mean `fig3-accuracy`?"
        );
        let names = EXPERIMENTS.names();
        assert!(names.contains(&"truth".to_owned()) && names.is_sorted(), "{names:?}");
        assert!(!EXPERIMENTS.names_in("experiments/paper").contains(&"truth".to_owned()));
    }

    #[test]
    fn every_manifest_of_the_repository_is_in_the_binary() {
        let kinds = ["experiments/paper", "experiments/extensions", "baselines", "data"];
        for folder in kinds {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(root).unwrap() {
                let name = entry.unwrap().file_name();
                let path = Path::new(folder).join(&name);
                let is_manifest = path.extension().is_some_and(|extension| extension == "toml");
                assert_eq!(is_embedded(&path), is_manifest, "{}", path.display());
            }
        }
    }
}
