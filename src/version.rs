//! Versions of behaviour. The key of a stage holds the versions of the code that it runs, so that finished
//! stages stay good while the code is only rewritten, and are made again when it does something else.
//!
//! Every version has a golden test: what the code gives for a tiny input is written in
//! `tests/golden/`. If that changes and the version's number does not, the test fails.

use std::fmt;

/// The version of one piece of code whose outputs stages keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// What has the version: `simulator`, `train/graph-rnn`. Also the name of its golden file.
    pub name: &'static str,
    /// Raised whenever outputs change.
    pub number: u32,
}

impl Version {
    pub const fn new(name: &'static str, number: u32) -> Self {
        Self { name, number }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.number)
    }
}

#[cfg(test)]
pub mod golden {
    use std::path::PathBuf;

    use super::Version;

    /// Set to write the golden files of versions whose number was raised, and of new ones.
    const RENEW: &str = "TRACEGYM_RENEW_GOLDEN";

    /// Lines that begin so may differ in a tenth of the cases: what a trained network draws hangs on the
    /// last bits of its weights, which differ between processors.
    const MOSTLY: &str = "~ ";

    /// Numbers with a decimal point in lines that begin so may differ by [`TOLERANCE`], for the same reason.
    const ABOUT: &str = "≈ ";
    const TOLERANCE: f64 = 2e-3;

    /// Whether this run writes golden files.
    pub fn renews() -> bool {
        std::env::var_os(RENEW).is_some()
    }

    pub fn path(version: Version) -> PathBuf {
        let name = format!("{}.txt", version.name.replace('/', "-"));
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
    }

    /// Holds `values`, what the code of `version` gives now, to what it gave when its number was raised
    /// last.
    pub fn assert(version: Version, values: &str) {
        let path = path(version);
        let head = format!("version {}\n", version.number);
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(known) = known.strip_prefix(&head) {
            if let Err(difference) = same(known, values) {
                panic!(
                    "`{}` gives other outputs than its version {} did: raise the number, or mend the \
                     change\n{difference}",
                    version.name, version.number
                );
            }
        } else if renews() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(&path, head + values).expect("writes");
        } else {
            panic!(
                "{} is of another version than {version}: {RENEW}=1 cargo test writes it",
                path.display()
            );
        }
    }

    fn same(known: &str, now: &str) -> Result<(), String> {
        let (known, now): (Vec<&str>, Vec<&str>) = (known.lines().collect(), now.lines().collect());
        if known.len() != now.len() {
            return Err(format!("{} lines instead of {}", now.len(), known.len()));
        }
        let (mut drawn, mut others) = (0, Vec::new());
        for (known, now) in known.iter().zip(&now) {
            let equal = known == now || known.starts_with(ABOUT) && near(known, now);
            if known.starts_with(MOSTLY) {
                drawn += 1;
                others.extend((!equal).then(|| format!("- {known}\n+ {now}")));
            } else if !equal {
                return Err(format!("- {known}\n+ {now}"));
            }
        }
        if others.len() * 10 <= drawn {
            Ok(())
        } else {
            Err(format!("{} of {drawn} draws differ:\n{}", others.len(), others.join("\n")))
        }
    }

    /// Whether two lines are equal word by word, numbers with a decimal point within the tolerance.
    fn near(one: &str, other: &str) -> bool {
        let (one, other) = (one.split(' '), other.split(' '));
        let word = |(one, other): (&str, &str)| match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(a), Ok(b)) if one.contains('.') => (a - b).abs() <= TOLERANCE * a.abs().max(1e-3),
            _ => one == other,
        };
        one.clone().count() == other.clone().count() && one.zip(other).all(word)
    }

    #[test]
    fn what_counts_as_the_same() {
        assert_eq!(same("a 3\n≈ loss 2.3451\n", "a 3\n≈ loss 2.3452\n"), Ok(()));
        assert_eq!(same("a 3\n", "a 4\n").unwrap_err(), "- a 3\n+ a 4");
        assert!(same("≈ loss 2.34\n", "≈ loss 2.44\n").is_err());
        assert!(same("loss 2.3451\n", "loss 2.3452\n").is_err());
        let draws = |changed: usize| -> String {
            (0..20).map(|n| format!("~ {n} {}\n", if n < changed { 'x' } else { 'y' })).collect()
        };
        assert_eq!(same(&draws(0), &draws(2)), Ok(()));
        assert!(same(&draws(0), &draws(3)).unwrap_err().starts_with("3 of 20 draws differ"));
    }
}
