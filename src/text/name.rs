//! Names as the text format writes them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What ends a value, or opens one, in the format; and the mark of an escape.
const RESERVED: [char; 11] = [',', '/', '(', ')', '<', '>', '{', '}', '\n', '\r', '%'];

/// A name with each reserved character as `%` and two hexadecimal digits.
pub fn write(name: &str) -> Cow<'_, str> {
    if !name.contains(RESERVED) {
        return name.into();
    }
    let mut text = String::with_capacity(name.len() + 8);
    for char in name.chars() {
        if RESERVED.contains(&char) {
            _ = write!(text, "%{:02X}", u32::from(char))
        } else {
            text.push(char)
        }
    }
    text.into()
}

/// The inverse of [`write`]; `None` for a text that it does not produce.
pub fn read(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return (!text.contains(RESERVED)).then_some(text.into());
    }
    let mut parts = text.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let char = char::from(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        name.push(char);
        name.push_str(&part[2..]);
    }
    (write(&name) == text).then_some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["S_1", "GET /api/items,all", "a%b", "%", "<x>(y){z}\n\r", "é/ü", ""] {
            let text = write(name);
            assert!(!text.contains([',', '/', '(', ')', '<', '>', '\n', '\r']));
            assert_eq!(read(&text).as_deref(), Some(name));
        }
        assert_eq!(write("GET /a"), "GET %2Fa");
        for text in ["a,b", "a/b", "%", "%2", "%zz", "%2f", "%41", "%+1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
