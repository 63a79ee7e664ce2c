//! Files that outlast a crash or a loss of power: content reaches the disk before its name does. And the
//! hash by which a file is known again.
//!
//! A rename alone keeps other processes from seeing half a file, but after a loss of power the new name
//! may stand before an empty file. So content is flushed first, then the file is renamed, then its
//! folder is flushed.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::UserError;

/// Size and BLAKE3 of a file.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(path: &Path) -> io::Result<(u64, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok((hasher.count(), hasher.finalize()))
}

/// What the name of a file ends in until it is whole.
const PARTIAL: &str = ".partial";
/// Files that are flushed at the same time.
const FLUSHED_AT_ONCE: usize = 16;

/// Writes `content` to `path` so that, whatever happens, there is either the old file or the whole new
/// one. Folders that are missing are made.
///
/// # Errors
/// A place that cannot be written; the old file is then as it was.
pub fn write(path: &Path, content: &[u8]) -> Result<(), UserError> {
    write_all([(path, content)])
}

/// The same for content that `fill` writes piece by piece.
///
/// # Errors
/// A place that cannot be written, or whatever `fill` fails with; the old file is then as it was.
pub fn write_with<E: From<UserError>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    Ok(put_in_place(vec![(begin(path, fill)?, path)])?)
}

/// The same for several files at once, which takes little longer than for one. None is replaced before
/// all are on the disk.
///
/// # Errors
/// A place that cannot be written.
pub fn write_all<'a>(
    files: impl IntoIterator<Item = (&'a Path, &'a [u8])>,
) -> Result<(), UserError> {
    let begun = files
        .into_iter()
        .map(|(path, content)| {
            let failed = |error| UserError::io(path, "cannot be written", error);
            Ok((begin(path, |file| file.write_all(content).map_err(failed))?, path))
        })
        .collect::<Result<_, UserError>>()?;
    put_in_place(begun)
}

/// Writes what is to be at `path` beside it.
fn begin<E: From<UserError>>(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<NamedTempFile, E> {
    let folder = folder_of(path);
    create_folder(folder)?;
    let failed = |error| UserError::io(path, "cannot be written", error);
    let mut file = partial(path, folder).map_err(failed)?;
    fill(file.as_file_mut())?;
    Ok(file)
}

fn put_in_place(begun: Vec<(NamedTempFile, &Path)>) -> Result<(), UserError> {
    let failed = |path: &Path, error| UserError::io(path, "cannot be written", error);
    sync_files(&begun.iter().map(|(file, path)| (file.path(), *path)).collect::<Vec<_>>())?;
    let mut folders = BTreeSet::new();
    for (file, path) in begun {
        file.persist(path).map_err(|error| failed(path, error.error))?;
        folders.insert(folder_of(path));
    }
    folders.into_iter().try_for_each(|folder| sync_folder(folder).map_err(|e| failed(folder, e)))
}

/// Flushes files to the disk; with each comes the path that errors name.
fn sync_files(files: &[(&Path, &Path)]) -> Result<(), UserError> {
    let sync = |(file, path): &(&Path, &Path)| {
        // Windows flushes only what is open for writing.
        let file = OpenOptions::new().read(true).write(cfg!(windows)).open(file);
        file.and_then(|file| file.sync_all())
            .map_err(|error| UserError::io(path, "cannot be flushed to disk", error))
    };
    if let [file] = files {
        return sync(file);
    }
    // Most of the time is spent waiting, and file systems flush in one go what is asked for at once.
    std::thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(FLUSHED_AT_ONCE).max(1));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().try_for_each(sync))).collect();
        let mut ends = threads.into_iter().map(|thread| thread.join());
        ends.try_for_each(|end| end.expect("flushing does not panic"))
    })
}

/// A file beside `path`, which removes itself unless it is renamed.
fn partial(path: &Path, folder: &Path) -> io::Result<NamedTempFile> {
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(PARTIAL);
    // Temporary files are private; results are what the user's umask makes of any file.
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}

/// Removes what [`write()`] left in `folder` when its process was killed. Nobody else may be writing
/// there. What cannot be removed stays: it is in nobody's way.
pub fn clear_partial(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(PARTIAL) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// A place that cannot be written.
pub fn create_folder(folder: &Path) -> Result<(), UserError> {
    fs::create_dir_all(folder).map_err(|error| UserError::io(folder, "cannot be created", error))
}

/// Flushes everything below `folder` to the disk.
///
/// # Errors
/// A file or folder that cannot be read or flushed.
pub fn sync_tree(folder: &Path) -> Result<(), UserError> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    let failed = |path: &Path, error| UserError::io(path, "cannot be flushed to disk", error);
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let path = entry.map_err(|error| failed(&folder, error))?.path();
            let kind = fs::symlink_metadata(&path).map_err(|error| failed(&path, error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
        next += 1;
    }
    sync_files(&files.iter().map(|file| (&**file, &**file)).collect::<Vec<_>>())?;
    folders.iter().try_for_each(|folder| sync_folder(folder).map_err(|e| failed(folder, e)))
}

/// Renames a file or folder whose content is on the disk, and makes the new name outlast a crash.
///
/// # Errors
/// A place that cannot be written, or one on another file system.
pub fn rename(from: &Path, to: &Path) -> Result<(), UserError> {
    fs::rename(from, to)
        .and_then(|()| sync_folder(folder_of(to)))
        .map_err(|error| UserError::io(to, "cannot be moved into place", error))
}

/// The folder that `path` is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder outlast a crash, where the system can.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems know no such thing for folders.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Other systems do so by themselves, or not at all.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file.txt");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let error = write_with(&path, |file| {
            let full = io::Error::other("the disk is full");
            let written = file.write_all(b"half").and(Err(full));
            written.map_err(|error| UserError::io(&path, "cannot be written", error))
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("file.txt: cannot be written: the disk is full"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn none_of_several_files_is_replaced_unless_all_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (0..40).map(|index| dir.path().join(format!("{}/{index}", index % 3))).collect();
        let all = |content: &'static [u8]| write_all(paths.iter().map(|path| (&**path, content)));
        all(b"one").unwrap();
        all(b"two").unwrap();
        assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"two"));
        // A file where a folder would have to be.
        fs::write(dir.path().join("blocked"), "").unwrap();
        let blocked = dir.path().join("blocked/file");
        let files = paths.iter().chain([&blocked]).map(|path| (&**path, &b"three"[..]));
        let error = write_all(files).unwrap_err().to_string();
        assert!(error.contains("blocked"), "{error}");
        assert!(paths.iter().all(|path| fs::read(path).unwrap() == b"two"));
        assert_eq!(fs::read_dir(dir.path().join("0")).unwrap().count(), 14);
    }

    #[cfg(unix)]
    #[test]
    fn a_result_can_be_read_by_whom_the_umask_lets() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write(&ours, b"").unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }

    #[test]
    fn what_a_killed_writer_left_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let file = partial(&dir.path().join("model.bin"), dir.path()).unwrap();
        file.keep().unwrap();
        fs::write(dir.path().join("notes.partial"), "mine").unwrap();
        clear_partial(dir.path());
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.partial"]);
    }

    #[test]
    fn a_tree_is_flushed_and_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        write(&from.join("x/y"), b"1").unwrap();
        sync_tree(&from).unwrap();
        rename(&from, &dir.path().join("to")).unwrap();
        assert_eq!(fs::read(dir.path().join("to/x/y")).unwrap(), b"1");
        assert!(rename(&from, &dir.path().join("again")).is_err());
    }
}
