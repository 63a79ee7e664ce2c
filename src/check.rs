//! Checks of what a user writes in flags and files: numbers in their ranges, lists that name each entry
//! once, names that are safe as one part of a path. A failed check is a sentence that begins with the key or
//! the value; the caller says of which file or flag it speaks.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

/// # Errors
/// A `value` outside `range`, or one that is not a number, by its key.
pub fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}: must be from {} to {}", range.start(), range.end()))
}

/// # Errors
/// An entry that `values` has twice: it would be counted twice, as if it were two measurements.
pub fn each_once<T: PartialEq + Debug>(key: &str, values: &[T]) -> Result<(), String> {
    let repeated = |(index, value): &(usize, &T)| values[..*index].contains(value);
    match values.iter().enumerate().find(repeated) {
        Some((_, value)) => Err(format!("{key} has {value:?} more than once: name each once")),
        None => Ok(()),
    }
}

/// Longest name, characters: file systems take 255 bytes, and results add to it.
const LONGEST_NAME: usize = 100;
/// What files of ours end with: a folder of such a name would lie beside them, or be in their place.
const FILE_ENDINGS: [&str; 9] = ["csv", "gz", "json", "md", "parquet", "png", "svg", "tex", "toml"];
/// Devices of Windows, which are no files whatever follows a dot in their names.
const DEVICES: [&str; 4] = ["aux", "con", "nul", "prn"];
/// Devices that have a digit behind them.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// Checks that `name` may be one part of a path on any system, and stays inside the folder that it is put
/// into.
///
/// # Errors
/// A name that is no such part, with the rule.
pub fn name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let shown = || -> String { name.chars().take(LONGEST_NAME / 2).collect() };
    if name.chars().count() > LONGEST_NAME {
        return Err(format!("{:?}… is longer than {LONGEST_NAME} characters", shown()));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(plain)
        || name.ends_with('.')
    {
        return Err(format!(
            "{name:?} is no name: use letters a–z, digits, `-`, `_` and `.`, a letter or digit first and no `.` last"
        ));
    }
    let lower = name.to_ascii_lowercase();
    if let Some((_, ending)) = lower.rsplit_once('.')
        && FILE_ENDINGS.contains(&ending)
    {
        return Err(format!("{name:?} is no name: it ends like a file (`.{ending}`)"));
    }
    let stem = lower.split('.').next().unwrap_or_default();
    let numbered = stem.strip_suffix(|c: char| c.is_ascii_digit());
    if DEVICES.contains(&stem) || numbered.is_some_and(|stem| NUMBERED_DEVICES.contains(&stem)) {
        return Err(format!("{name:?} is no name: it is a device on Windows"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stay_in_their_range() {
        assert_eq!(within("samples", 0, 1..=5), Err("samples = 0: must be from 1 to 5".to_owned()));
        assert!(within("samples", 1, 1..=5).is_ok() && within("samples", 5, 1..=5).is_ok());
        let huge = within("limits.fit", u64::MAX, 1..=9).unwrap_err();
        assert_eq!(huge, "limits.fit = 18446744073709551615: must be from 1 to 9");
        for value in [f64::NAN, f64::INFINITY, -0.1] {
            assert!(within("share", value, 0.0..=1.0).is_err(), "{value}");
        }
    }

    #[test]
    fn lists_name_each_entry_once() {
        assert_eq!(
            each_once("seeds", &[0, 1, 2, 1, 0]),
            Err("seeds has 1 more than once: name each once".to_owned())
        );
        assert_eq!(
            each_once("generators", &["markov", "markov"]),
            Err("generators has \"markov\" more than once: name each once".to_owned())
        );
        // They are equal, whatever their bits.
        assert!(each_once("temperatures", &[0.0, -0.0]).is_err());
        assert!(each_once::<u64>("seeds", &[]).is_ok() && each_once("seeds", &[2, 1]).is_ok());
    }

    #[test]
    fn names_are_one_plain_part_of_a_path() {
        let longest = "a".repeat(LONGEST_NAME);
        for good in ["fig3-accuracy", "Mine_2", "a.b.c", "0", "confirm", "com", "v1.5", &longest] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(LONGEST_NAME + 1);
        for (bad, words) in [
            ("", "is no name"),
            (".", "is no name"),
            ("..", "is no name"),
            (".hidden", "is no name"),
            ("-flag", "is no name"),
            ("a/b", "is no name"),
            ("../a", "is no name"),
            ("/a", "is no name"),
            ("a\\b", "is no name"),
            ("C:a", "is no name"),
            ("a.", "no `.` last"),
            ("a b", "is no name"),
            ("a\nb", "\"a\\nb\" is no name"),
            ("a\u{202e}b", "\"a\\u{202e}b\" is no name"),
            ("naïve", "letters a–z"),
            ("run.json", "ends like a file (`.json`)"),
            ("README.MD", "ends like a file (`.md`)"),
            ("nul", "device on Windows"),
            ("Con.x", "device on Windows"),
            ("com7", "device on Windows"),
            (&too_long, "is longer than 100 characters"),
        ] {
            let error = name(bad).unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
        assert!(name(&"x".repeat(1 << 20)).unwrap_err().len() < 200);
    }

    proptest! {
        /// Whatever passes names one entry of the folder that it is joined to, and nothing else.
        #[test]
        fn a_name_never_leaves_its_folder(text in r"[a-z./\\: \x00-\x1f-]{0,6}|\PC{0,8}") {
            if name(&text).is_ok() {
                let parts: Vec<Component> = Path::new(&text).components().collect();
                prop_assert_eq!(parts, [Component::Normal(text.as_ref())]);
                let inside = Path::new("folder").join(&text);
                prop_assert_eq!(inside.parent(), Some(Path::new("folder")));
            }
        }
    }
}
