/// A text that is put together of parts, and told from all others by its parts: names may hold whatever
/// stands between them, and `a>b` that calls `c` is not `a` that calls `b>c`.
///
/// Ordered by the text, and of equal texts by where the parts end. Features and words are columns of
/// what learns from them, so their order is part of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Joined {
    text: String,
    /// Where each part ends in the text, in bytes.
    ends: Vec<usize>,
}

impl Joined {
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut joined = Self::default();
        parts.into_iter().for_each(|part| joined.push(part));
        joined
    }

    pub fn push(&mut self, part: &str) {
        self.text.push_str(part);
        self.ends.push(self.text.len());
    }

    /// Adds all parts of another text.
    pub fn extend(&mut self, other: &Self) {
        let begin = self.text.len();
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| begin + end));
    }
}

impl From<&str> for Joined {
    fn from(text: &str) -> Self {
        Self::of([text])
    }
}

/// Tests say what a text is in one word.
#[cfg(test)]
impl PartialEq<&str> for Joined {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hostile_names;

    #[test]
    fn texts_come_first_in_the_order() {
        let call = |source, destination| Joined::of(["call=", source, ">", destination]);
        assert!(call("a", "b") < call("a", "c") && call("a", "z") < call("b", "a"));
        assert_eq!(call("a>b", "c").text, call("a", "b>c").text);
        assert!(call("a", "b>c") < call("a>b", "c"));
        let mut longer = Joined::of(["service=", "s", "/"]);
        longer.extend(&call("a", "b"));
        assert_eq!(longer, Joined::of(["service=", "s", "/", "call=", "a", ">", "b"]));
    }

    proptest! {
        #[test]
        fn other_parts_are_another_text(
            one in prop::collection::vec(hostile_names(), 1..4),
            other in prop::collection::vec(hostile_names(), 1..4),
        ) {
            let of = |parts: &[String]| Joined::of(parts.iter().map(String::as_str));
            prop_assert_eq!(of(&one) == of(&other), one == other);
        }
    }
}
