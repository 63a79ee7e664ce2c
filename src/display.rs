//! Text from outside (names, paths, messages of other programs), made fit to be shown to people.
//!
//! Names of services may hold any character and be of any length. What is shown, in a table, a figure,
//! on a terminal or in an error, goes through this file: characters that do not print stand as
//! `\u{1b}`, so that none of them steers a terminal, turns the direction of a line or breaks a format,
//! and what is too long is cut. Files that programs read (Parquet, records, replies) keep every
//! character.

use std::borrow::Cow;

/// Longest word of a shown text, in characters: a longer one loses its middle.
pub const LONGEST_WORD: usize = 80;
/// Longest name in a table, a figure or on a terminal, in characters: a longer one loses its middle.
pub const LONGEST_NAME: usize = 200;
/// Longest note or progress line, in characters: a longer one has a mark in place of its end.
pub const LONGEST_LINE: usize = 4_000;
/// Longest quotation in a message, in characters: a longer one has a mark in place of its end.
pub const LONGEST_QUOTE: usize = 60;
/// Longest word of an error, in characters: paths are shown as far as a system accepts them.
const LONGEST_PATH: usize = 4_096;

/// A name: one line, in which line breaks and tabs are as visible as other control characters.
pub fn name(text: &str) -> Cow<'_, str> {
    let shown = visible(text);
    if shown.chars().count() <= LONGEST_WORD {
        return shown;
    }
    cut_middle(&cut_words(&shown, LONGEST_WORD), LONGEST_NAME).into_owned().into()
}

/// A name in the legend of a figure, where it has one line: no longer than a word may be.
pub fn label(text: &str) -> Cow<'_, str> {
    match name(text) {
        Cow::Borrowed(shown) => cut_middle(shown, LONGEST_WORD),
        Cow::Owned(shown) => cut_middle(&shown, LONGEST_WORD).into_owned().into(),
    }
}

/// A sentence or message on one line: line breaks and tabs become spaces.
pub fn line(text: &str) -> Cow<'_, str> {
    let shown = visible_between(text, |c| matches!(c, '\n' | '\r' | '\t').then_some(' '));
    if shown.chars().count() <= LONGEST_WORD {
        return shown;
    }
    cut_end(&cut_words(&shown, LONGEST_WORD), LONGEST_LINE).into_owned().into()
}

/// A message of several lines for the terminal, with paths as long as they are.
pub fn message(text: &str) -> Cow<'_, str> {
    let shown = visible_between(text, |c| match c {
        '\n' => Some('\n'),
        '\r' | '\t' => Some(' '),
        _ => None,
    });
    if shown.len() <= LONGEST_PATH {
        return shown;
    }
    let lines: Vec<String> = shown.split('\n').map(|line| cut_words(line, LONGEST_PATH)).collect();
    lines.join("\n").into()
}

/// The beginning of a value, as a message quotes it.
pub fn quoted(text: &str) -> Cow<'_, str> {
    // Only what is shown is looked at: a value may be a whole file.
    let end = text.char_indices().nth(LONGEST_QUOTE + 1).map_or(text.len(), |(end, _)| end);
    match visible(&text[..end]) {
        Cow::Borrowed(shown) => cut_end(shown, LONGEST_QUOTE),
        Cow::Owned(shown) => cut_end(&shown, LONGEST_QUOTE).into_owned().into(),
    }
}

/// The beginning of what another program said, for a message: `width` characters of it at most, on one
/// line, words one space apart. Whatever it may hold that is secret is cleared before
/// ([`crate::secret::Redactor`]).
pub fn excerpt(text: &str, width: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        // Only what is shown is looked at: there may be megabytes of it.
        line.extend(word.chars().take(width + 1));
        if line.chars().nth(width).is_some() {
            break;
        }
    }
    cut_end(&visible(&line), width).into_owned()
}

/// `text` with each character that does not print as `\u{…}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    visible_between(text, |_| None)
}

/// As [`visible`], with some characters as others in their place.
fn visible_between(text: &str, other: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    if text.chars().all(prints) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match other(c) {
            Some(other) => shown.push(other),
            None if prints(c) => shown.push(c),
            None => shown.extend(c.escape_unicode()),
        }
    }
    shown.into()
}

/// Whether a character leaves a mark of its own and none on what stands beside it: no control
/// character, mark of direction, invisible or unassigned character, and no space but the common one.
pub fn prints(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library knows. A letter stands before, as accents that combine with it may stay.
    ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

/// Each word of more than `longest` characters without its middle.
fn cut_words(text: &str, longest: usize) -> String {
    text.split(' ').map(|word| cut_middle(word, longest)).collect::<Vec<_>>().join(" ")
}

/// At most `longest` characters: the beginning and the end, as names that are long differ in either.
fn cut_middle(text: &str, longest: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= longest {
        return text.into();
    }
    let end = longest / 2;
    let begin: String = text.chars().take(longest - 1 - end).collect();
    begin.chars().chain(['…']).chain(text.chars().skip(length - end)).collect::<String>().into()
}

/// The first `longest` characters, and a mark where there are more.
fn cut_end(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hostile_names;

    #[test]
    fn ordinary_text_stays_as_it_is() {
        for text in
            ["", "MS_00001", "GET /api/{id}", "naïve Grüße – ≥ 5 %", "नमस्ते", "日本語", "a\\b'\""]
        {
            assert_eq!(name(text), text);
            assert_eq!(line(text), text);
            assert_eq!(message(text), text);
        }
        // An accent of its own, on the letter before it.
        assert_eq!(name("e\u{301}"), "e\u{301}");
    }

    #[test]
    fn what_does_not_print_is_visible() {
        assert_eq!(name("a\0b\u{1b}[31mc"), "a\\u{0}b\\u{1b}[31mc");
        assert_eq!(name("gnp\u{202e}txt"), "gnp\\u{202e}txt");
        assert_eq!(name("a\nb"), "a\\u{a}b");
        assert_eq!(line("a\nb\tc\u{7}"), "a b c\\u{7}");
        assert_eq!(message("a\nb\u{9b}"), "a\nb\\u{9b}");
        // Zero width, another space, a line break of Unicode, no character of XML.
        let hidden = "\u{200b}\u{a0}\u{2028}\u{ffff}\u{feff}";
        assert_eq!(name(hidden), "\\u{200b}\\u{a0}\\u{2028}\\u{ffff}\\u{feff}");
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = "x".repeat(10_000);
        assert_eq!(name(&long).chars().count(), LONGEST_WORD);
        assert_eq!(line(&format!("a {long} b")).chars().count(), LONGEST_WORD + 4);
        assert_eq!(name(&"ab ".repeat(5_000)).chars().count(), LONGEST_NAME);
        assert_eq!(label(&"ab ".repeat(5_000)).chars().count(), LONGEST_WORD);
        assert_eq!(line(&"ab ".repeat(5_000)).chars().count(), LONGEST_LINE + 1);
        assert_eq!(quoted(&long).chars().count(), LONGEST_QUOTE + 1);
        assert!(quoted(&"\0".repeat(100)).chars().count() <= LONGEST_QUOTE + 1);
        // Both ends are left.
        let ends = format!("begin{long}end");
        assert!(name(&ends).starts_with("begin") && name(&ends).ends_with("end"));
        let path = "/x".repeat(1_000);
        assert_eq!(message(&path), path);
    }

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt("  a\r\n\tb\u{1b}[1m ", 10), "a b [1m");
        assert_eq!(excerpt("12345", 5), "12345");
        assert_eq!(excerpt("éé é", 2), "éé…");
        assert_eq!(excerpt(&"x".repeat(1 << 20), 3), "xxx…");
        assert_eq!(excerpt("a\u{202e}b", 20), "a\\u{202e}b");
    }

    proptest! {
        /// One line that prints, of bounded length, whatever comes; and showing it again changes
        /// nothing.
        #[test]
        fn any_text_is_fit_to_be_shown(text in prop_oneof![any::<String>(), hostile_names()]) {
            let texts = [name(&text), line(&text), quoted(&text), excerpt(&text, 50).into()];
            for shown in texts {
                prop_assert!(shown.chars().all(prints), "{shown:?}");
                prop_assert!(shown.chars().count() <= LONGEST_LINE + 1);
                prop_assert_eq!(visible(&shown), shown.as_ref());
            }
            prop_assert!(message(&text).chars().all(|c| c == '\n' || prints(c)));
        }
    }
}
