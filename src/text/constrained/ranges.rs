//! Sets of numbers, and writing one of them digit by digit.

/// A union of ranges of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    pub fn one(value: u32) -> Self {
        Self(vec![(value, value)])
    }

    /// `low` to `high`, both included; nothing if `low` is above `high`.
    pub fn between(low: u32, high: u32) -> Self {
        let mut ranges = Self::default();
        ranges.add(low, high);
        ranges
    }

    /// Adds `low` to `high`, both included.
    pub fn add(&mut self, low: u32, high: u32) {
        if low <= high && !self.0.contains(&(low, high)) {
            self.0.push((low, high));
        }
    }

    pub fn contains(&self, value: u32) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&value))
    }

    /// Whether a number of the set begins with the digits `text` (without leading zeros).
    pub fn extends(&self, text: &[u8]) -> bool {
        let Some(value) = digits(text) else { return text.is_empty() };
        // A zero stands alone.
        let most = if value == 0 { 1 } else { 11 - text.len() as u32 };
        (0..most).any(|more| {
            let power = 10u64.pow(more);
            let (first, last) = (value * power, value * power + (power - 1));
            self.0.iter().any(|(low, high)| first <= u64::from(*high) && u64::from(*low) <= last)
        })
    }

    /// The number that the digits `text` are, if it is in the set.
    pub fn complete(&self, text: &[u8]) -> Option<u32> {
        let value = u32::try_from(digits(text)?).ok()?;
        self.contains(value).then_some(value)
    }
}

/// The number that plain decimal digits without leading zeros stand for, up to ten of them.
fn digits(text: &[u8]) -> Option<u64> {
    let plain = matches!(text.len(), 1..=10) && text.iter().all(u8::is_ascii_digit);
    if !plain || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    Some(text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the definition, on all numbers of up to four digits.
        #[test]
        fn prefixes_are_those_of_the_numbers_in_the_set(
            ranges in prop::collection::vec((0..3000u32, 0..400u32), 1..4),
            text in "[0-9]{1,4}",
        ) {
            let mut set = Ranges::default();
            ranges.iter().for_each(|(low, more)| set.add(*low, low + more));
            let mut numbers = (0..4000u32).filter(|value| set.contains(*value));
            let begins = numbers.any(|value| value.to_string().starts_with(&text));
            prop_assert_eq!(set.extends(text.as_bytes()), begins);
            let plain = text == "0" || !text.starts_with('0');
            let value = text.parse().ok().filter(|value| plain && set.contains(*value));
            prop_assert_eq!(set.complete(text.as_bytes()), value);
        }
    }

    #[test]
    fn the_largest_numbers_can_be_written() {
        let set = Ranges::between(u32::MAX - 1, u32::MAX);
        assert!(set.extends(b"") && set.extends(b"4") && set.extends(b"429496729"));
        assert!(set.extends(b"4294967294") && !set.extends(b"4294967296"));
        assert!(!set.extends(b"42949672940") && !set.extends(b"0") && !set.extends(b"-1"));
    }
}
