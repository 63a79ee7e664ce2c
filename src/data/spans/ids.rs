//! Ids as text.

use super::base64;
use super::tape::Problem;
use crate::data::table::shown;

/// Why a text is no id: what it should have been.
fn no_id(text: &str, bytes: usize) -> Problem {
    let digits = 2 * bytes;
    Problem::new(format!("`{}` is no id of at most {digits} hexadecimal digits", shown(text)))
}

/// The number that at most `2 * bytes` hexadecimal digits of either case are; `None` for none and for
/// zeros, which mean that there is no id.
///
/// # Errors
/// Another text.
pub fn hex(text: &str, bytes: usize) -> Result<Option<u128>, Problem> {
    if text.len() > 2 * bytes || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(no_id(text, bytes));
    }
    if text.is_empty() {
        return Ok(None);
    }
    let number = u128::from_str_radix(text, 16).map_err(|_| no_id(text, bytes))?;
    Ok(Some(number).filter(|number| *number != 0))
}

/// As [`hex`], or what exporters by protobuf's standard mapping write: base64 of the id's bytes, or of its
/// hexadecimal digits.
///
/// # Errors
/// Another text.
pub fn hex_or_base64(text: &str, bytes: usize) -> Result<Option<u128>, Problem> {
    hex(text, bytes).or_else(|_| {
        let decoded = base64::decode(text).unwrap_or_default();
        if decoded.len() == bytes {
            return Ok(number(&decoded));
        }
        let digits = std::str::from_utf8(&decoded).ok().filter(|text| text.len() == 2 * bytes);
        let found = digits.and_then(|text| hex(text, bytes).ok());
        found.ok_or_else(|| {
            let Problem { message, .. } = no_id(text, bytes);
            Problem::new(format!("{message}: ids are hex in OTLP JSON"))
        })
    })
}

/// The number of big-endian bytes; `None` for none and for zeros.
pub fn number(bytes: &[u8]) -> Option<u128> {
    let number = bytes.iter().fold(0, |number, byte| (number << 8) | u128::from(*byte));
    Some(number).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_in_any_spelling() {
        let id = 0x0af7_0000_0000_0000_0000_0000_0000_0001;
        for text in [
            "0af70000000000000000000000000001",
            "0AF70000000000000000000000000001",
            "af70000000000000000000000000001",
            "CvcAAAAAAAAAAAAAAAAAAQ==",
            "CvcAAAAAAAAAAAAAAAAAAQ",
            "MGFmNzAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDE=",
        ] {
            assert_eq!(hex_or_base64(text, 16), Ok(Some(id)), "{text}");
        }
        assert_eq!(hex_or_base64("AAAAAAAAAKE=", 8), Ok(Some(0xa1)));
        for none in ["", "0", "0000000000000000", "AAAAAAAAAAA="] {
            assert_eq!(hex_or_base64(none, 8), Ok(None), "{none}");
        }
        for text in ["000000000000000g", "00000000000000001", "0x12", "+1", " 1", "é"] {
            assert!(hex(text, 8).unwrap_err().message.contains("is no id of at most 16"), "{text}");
            let message = hex_or_base64(text, 8).unwrap_err().message;
            assert!(message.ends_with("ids are hex in OTLP JSON"), "{message}");
        }
    }
}
