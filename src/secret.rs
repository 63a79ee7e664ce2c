//! Secrets, such as keys of endpoints, and texts cleared of them.
//!
//! A secret comes from the environment. Whatever a server or a program says, and may have been told
//! the secret, goes through a [`Redactor`] before it is cut, stored or shown. Clearing comes first: what
//! is cut first may keep a part of a secret that no longer looks like it.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// A text that prints as dots.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Bytes of a secret in sequence that are taken for a part of it. Shorter parts, which ordinary words
/// share, stay; 7 characters of a key of 40 leave as much to guess as a key of 33.
pub const PART: usize = 8;
/// What stands in place of a secret.
const MARK: &str = "…";
/// Encodings within encodings that are looked into: Base64 in an escaped string in JSON.
const DEPTH: u32 = 3;

/// Takes secrets out of texts: every part of [`PART`] bytes or more, in any case of letters, plain or
/// percent-encoded, with escapes of JSON, in Base64 (also of URLs, from any byte on) or in hexadecimal
/// digits. A secret shorter than that is taken out where it stands as a whole word.
#[derive(Default)]
pub struct Redactor {
    parts: HashSet<[u8; PART]>,
    words: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(…)")
    }
}

/// Words in the names of variables whose values are secret.
const SECRET_NAMES: [&str; 9] = [
    "KEY",
    "APIKEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "CREDENTIALS",
];

impl Redactor {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut redactor = Self::default();
        for Secret(text) in secrets {
            match text.len() {
                0 => {}
                length if length < PART => redactor.words.push(text.clone()),
                _ => redactor.parts.extend(windows(&text.to_ascii_lowercase().into_bytes())),
            }
        }
        redactor
    }

    /// Of the variables of the environment that are secret by their names (`MY_API_KEY`, `HF_TOKEN`)
    /// and do not name a file: for what programs say that see the environment.
    pub fn of_environment() -> Self {
        let secret = |name: &str| {
            name.split('_').any(|word| SECRET_NAMES.contains(&word.to_ascii_uppercase().as_str()))
        };
        let values = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let secrets: Vec<Secret> = values
            .filter(|(name, value)| secret(name) && value.len() >= PART)
            .filter(|(_, value)| !std::path::Path::new(value).exists())
            .map(|(_, value)| Secret::new(value))
            .collect();
        Self::new(&secrets)
    }

    /// Whether `text` holds a secret or a part of one.
    pub fn finds(&self, text: &str) -> bool {
        !self.places(text).is_empty()
    }

    /// `text` with a mark in place of every secret and part of one.
    pub fn clear(&self, text: &str) -> String {
        let mut cleared = String::with_capacity(text.len());
        let mut from = 0;
        for Range { start, end } in self.places(text) {
            cleared.push_str(&text[from..start]);
            cleared.push_str(MARK);
            from = end;
        }
        cleared.push_str(&text[from..]);
        cleared
    }

    /// Where secrets are: in order, apart, and at the bounds of characters.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        if !self.parts.is_empty() {
            let units =
                text.bytes().zip(0..).map(|(byte, at)| Unit { byte, start: at, end: at + 1 });
            self.search(&units.collect::<Vec<_>>(), DEPTH, &mut found);
        }
        for word in &self.words {
            found.extend(
                text.match_indices(word.as_str()).map(|(at, _)| at..at + word.len()).filter(
                    |place| {
                        let inner = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                        !inner(text[..place.start].chars().next_back())
                            && !inner(text[place.end..].chars().next())
                    },
                ),
            );
        }
        for place in &mut found {
            place.start = text.floor_char_boundary(place.start);
            place.end = text.ceil_char_boundary(place.end);
        }
        found.sort_by_key(|place| place.start);
        let mut apart: Vec<Range<usize>> = Vec::new();
        for place in found {
            match apart.last_mut() {
                Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
                _ => apart.push(place),
            }
        }
        apart
    }

    /// Looks for parts in `units` and in what they may encode.
    fn search(&self, units: &[Unit], depth: u32, found: &mut Vec<Range<usize>>) {
        if units.len() < PART {
            return;
        }
        let bytes: Vec<u8> = units.iter().map(|unit| unit.byte.to_ascii_lowercase()).collect();
        for (at, window) in windows(&bytes).enumerate() {
            if self.parts.contains(&window) {
                found.push(units[at].start..units[at + PART - 1].end);
            }
        }
        let Some(depth) = depth.checked_sub(1) else { return };
        for decode in [percent_decoded, json_decoded] {
            if let Some(decoded) = decode(units) {
                self.search(&decoded, depth, found);
            }
        }
        for run in units.chunk_by(|a, b| base64_value(a.byte).and(base64_value(b.byte)).is_some()) {
            // Eight bytes take eleven digits or more.
            if run.len() >= 11 {
                for from in 0..4 {
                    self.search(&base64_decoded(&run[from..]), depth, found);
                }
            }
        }
        for run in units.chunk_by(|a, b| a.byte.is_ascii_hexdigit() && b.byte.is_ascii_hexdigit()) {
            if run.len() >= 2 * PART {
                for from in 0..2 {
                    self.search(&hex_decoded(&run[from..]), depth, found);
                }
            }
        }
    }
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; PART]> {
    bytes.array_windows::<PART>().copied()
}

/// A byte of a text or of what it encodes, and the bytes of the text that it stands for.
#[derive(Clone, Copy)]
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
}

/// One byte for several units.
fn joined(byte: u8, units: &[Unit]) -> Option<Unit> {
    Some(Unit { byte, start: units.first()?.start, end: units.last()?.end })
}

fn hex(unit: Option<&Unit>) -> Option<u8> {
    char::from(unit?.byte).to_digit(16).map(|digit| digit as u8)
}

/// `units` with `%41` as `A`; `None` without any.
fn percent_decoded(units: &[Unit]) -> Option<Vec<Unit>> {
    decoded(units, b'%', |rest| {
        let byte = hex(rest.get(1))? << 4 | hex(rest.get(2))?;
        Some((joined(byte, &rest[..3])?, 3))
    })
}

/// `units` with `\u0041` as `A` and `\/` as `/`; `None` without any.
fn json_decoded(units: &[Unit]) -> Option<Vec<Unit>> {
    decoded(units, b'\\', |rest| {
        let byte = match rest.get(1)?.byte {
            b'u' => {
                let digits = (2..6).map(|at| hex(rest.get(at)).map(u32::from));
                let code = digits.reduce(|high, low| Some(high? << 4 | low?))??;
                // Keys in headers are ASCII; what is not cannot be a part of one.
                return Some((joined(u8::try_from(code).unwrap_or(0), &rest[..6])?, 6));
            }
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            other => other,
        };
        Some((joined(byte, &rest[..2])?, 2))
    })
}

/// `units` in which every `escape` that `read` understands is what it stands for.
fn decoded(
    units: &[Unit],
    escape: u8,
    read: impl Fn(&[Unit]) -> Option<(Unit, usize)>,
) -> Option<Vec<Unit>> {
    if !units.iter().any(|unit| unit.byte == escape) {
        return None;
    }
    let mut decoded = Vec::with_capacity(units.len());
    let mut rest = units;
    while let Some(first) = rest.first() {
        let found = if first.byte == escape { read(rest) } else { None };
        let (unit, length) = found.unwrap_or((*first, 1));
        decoded.push(unit);
        rest = &rest[length..];
    }
    Some(decoded)
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// The bytes that digits of Base64 stand for, the last ones too if a group is cut.
fn base64_decoded(digits: &[Unit]) -> Vec<Unit> {
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        for pair in 0..group.len().saturating_sub(1) {
            let values = [group[pair], group[pair + 1]].map(|unit| base64_value(unit.byte));
            let [Some(high), Some(low)] = values else { continue };
            let bits = u16::from(high) << 6 | u16::from(low);
            // Of twelve bits the byte begins at the first, third or fifth.
            let byte = (bits >> (4 - 2 * pair)) as u8;
            decoded.extend(joined(byte, &group[pair..pair + 2]));
        }
    }
    decoded
}

fn hex_decoded(digits: &[Unit]) -> Vec<Unit> {
    let pairs = digits.chunks_exact(2);
    pairs.filter_map(|pair| joined(hex(pair.first())? << 4 | hex(pair.get(1))?, pair)).collect()
}

/// `text` with a mark in place of the user and password of every URL.
pub fn without_users(text: &str) -> String {
    let mut cleared = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        cleared.push_str(before);
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>|,;()".contains(c);
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                cleared.push_str(MARK);
                &after[at..]
            }
            None => after,
        };
    }
    cleared + rest
}

#[cfg(test)]
mod tests {
    use base64_of as base64;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-Do/not+tell_any1";

    fn redactor(key: &str) -> Redactor {
        Redactor::new(&[Secret::new(key)])
    }

    fn base64_of(bytes: &[u8], alphabet: &[u8; 2]) -> String {
        let digit = |value: usize| match value {
            0..26 => b'A' + value as u8,
            26..52 => b'a' + value as u8 - 26,
            52..62 => b'0' + value as u8 - 52,
            _ => alphabet[value - 62],
        };
        let bits = |from: usize| {
            (from..from + 6).fold(0, |value, at| {
                let byte = bytes.get(at / 8).copied().unwrap_or(0);
                value << 1 | usize::from(byte >> (7 - at % 8) & 1)
            })
        };
        (0..bytes.len() * 8).step_by(6).map(|at| char::from(digit(bits(at)))).collect()
    }

    fn escaped(key: &str, each: impl Fn(u8) -> String) -> String {
        key.bytes().map(each).collect()
    }

    /// All forms of `key` that a server may send back.
    fn forms(key: &str) -> Vec<String> {
        let mut forms = vec![
            key.to_owned(),
            key.to_uppercase(),
            format!("Bearer {key}"),
            escaped(key, |byte| format!("%{byte:02X}")),
            escaped(key, |byte| match byte {
                b'a'..=b'z' => char::from(byte).to_string(),
                _ => format!("%{byte:02x}"),
            }),
            escaped(key, |byte| format!("\\u{byte:04x}")),
            key.replace('/', "\\/"),
            escaped(key, |byte| format!("\\\\u{byte:04X}")),
            escaped(key, |byte| format!("{byte:02x}")),
            escaped(key, |byte| format!("%25{byte:02x}")),
        ];
        for before in ["", "a", "ab", "user:"] {
            let text = format!("{before}{key}");
            forms.push(base64(text.as_bytes(), b"+/"));
            forms.push(base64(text.as_bytes(), b"-_"));
            let twice = base64(base64(text.as_bytes(), b"+/").as_bytes(), b"+/");
            forms.push(twice);
        }
        forms
    }

    /// Whether a text, decoded in any way, still holds so much of the key.
    fn holds(text: &str, key: &str) -> bool {
        redactor(key).finds(text)
    }

    #[test]
    fn every_form_is_cleared() {
        for form in forms(KEY) {
            let cleared = redactor(KEY).clear(&format!("no such key: «{form}», try again"));
            assert!(cleared.starts_with("no such key: «"), "{form}: {cleared}");
            assert!(cleared.ends_with("», try again"), "{form}: {cleared}");
            assert!(cleared.contains(MARK) && cleared.len() < 60, "{form}: {cleared}");
        }
    }

    #[test]
    fn a_part_at_a_cut_is_cleared_from_eight_bytes_on() {
        for length in 1..=KEY.len() {
            for part in [&KEY[..length], &KEY[KEY.len() - length..]] {
                assert_eq!(holds(part, KEY), length >= PART, "{part}");
            }
        }
    }

    #[test]
    fn short_secrets_go_as_words_and_others_stay() {
        let redactor = Redactor::new(&[Secret::new("none"), Secret::new("")]);
        assert_eq!(
            redactor.clear("key none; nonesuch, anyone, (none)"),
            "key …; nonesuch, anyone, (…)"
        );
        assert_eq!(format!("{:?} {redactor:?}", Secret::new(KEY)), "Secret(…) Redactor(…)");
        assert_eq!(Redactor::default().clear("as it is"), "as it is");
    }

    #[test]
    fn users_of_urls_are_cleared() {
        assert_eq!(
            without_users("from https://me:pw@a.b/c@d and http://x/, ftp://u@h:1 //k@l"),
            "from https://…@a.b/c@d and http://x/, ftp://…@h:1 //k@l"
        );
    }

    proptest! {
        /// Whatever the text around it, no form of any key stays, and the text around it does.
        #[test]
        fn no_form_stays(
            key in "[A-Za-z0-9_/+.~-]{16,40}",
            before in "[ -~é]{0,30}",
            after in "[ -~é]{0,30}",
        ) {
            for form in forms(&key) {
                let cleared = redactor(&key).clear(&format!("{before} {form} {after}"));
                prop_assert!(!holds(&cleared, &key), "{form}: {cleared}");
                prop_assert!(!cleared.contains(&form));
            }
        }

        /// Texts without the key stay as they are, and cleared ones do when cleared again.
        #[test]
        fn other_texts_stay(text in "\\PC{0,200}", key in "[!-~]{16,40}") {
            let redactor = redactor(&key);
            prop_assume!(!redactor.finds(&text));
            prop_assert_eq!(redactor.clear(&text), text);
        }
    }
}
