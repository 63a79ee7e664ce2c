//! What a published claim comes to beside a number with its 95 % interval. Every agreement is a test that the
//! number is where the claim says, and not the failure to find a difference: the wider an interval, the less
//! it agrees with.

use crate::number;
use crate::report::figure::Bounded;

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The interval lies within what the claim allows.
    Agrees,
    /// The interval lies outside of it.
    Differs,
    /// Part of the interval lies within, part outside.
    Inconclusive,
    /// It agrees, and so does what it should not agree for.
    Vacuous,
    /// Real graphs are at chance, so that generated ones cannot be told from them.
    NoSignal,
    /// There is no number, or none with an interval.
    NotComparable,
}

impl Word {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::Inconclusive => "inconclusive",
            Self::Vacuous => "vacuous",
            Self::NoSignal => "no signal",
            Self::NotComparable => "not comparable",
        }
    }
}

/// A verdict, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub word: Word,
    pub reason: String,
}

impl Verdict {
    pub fn new(word: Word, reason: impl Into<String>) -> Self {
        Self { word, reason: reason.into() }
    }
}

/// The numbers that a claim allows: both ends belong to it, and may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    pub low: f64,
    pub high: f64,
}

impl Region {
    pub const fn at_least(low: f64) -> Self {
        Self { low, high: f64::INFINITY }
    }

    pub const fn at_most(high: f64) -> Self {
        Self { low: f64::NEG_INFINITY, high }
    }

    /// A value, and what is as good as equal to it.
    pub fn about(value: f64, within: f64) -> Self {
        Self { low: value - within, high: value + within }
    }

    /// Whether `ours` lies within, outside, or cannot be told. Numbers in the reason are shown times `scale`.
    pub fn judge(self, ours: Bounded, scale: f64) -> Verdict {
        let Bounded { low, high, .. } = ours;
        if low.is_nan() || high.is_nan() {
            return Verdict::new(Word::NotComparable, "our number has no interval");
        }
        let shown = |value: f64| number::print(value * scale);
        if low >= self.low && high <= self.high {
            return Verdict::new(
                Word::Agrees,
                format!("our interval lies in {}", self.text(scale)),
            );
        }
        if high < self.low {
            let end = shown(self.low);
            return Verdict::new(Word::Differs, format!("ours is smaller: all below {end}"));
        }
        if low > self.high {
            let end = shown(self.high);
            return Verdict::new(Word::Differs, format!("ours is larger: all above {end}"));
        }
        let width = shown(high - low);
        let decides = self.high - self.low;
        let decides = if decides.is_finite() {
            format!("; none wider than {} can agree", shown(decides))
        } else {
            String::new()
        };
        let text = self.text(scale);
        let reason = format!("our interval, {width} wide, is partly outside {text}{decides}");
        Verdict::new(Word::Inconclusive, reason)
    }

    fn text(self, scale: f64) -> String {
        let shown = |value: f64| number::print(value * scale);
        match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => format!("{} to {}", shown(self.low), shown(self.high)),
            (true, false) => format!("{} or more", shown(self.low)),
            _ => format!("{} or less", shown(self.high)),
        }
    }
}

/// Which of two numbers is larger, by the interval of their difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Kept,
    Reversed,
    /// The interval holds 0.
    Open,
}

impl Order {
    /// Of a first number that should be larger: by the first minus the second.
    pub fn of(difference: Bounded) -> Self {
        if difference.low > 0.0 {
            Self::Kept
        } else if difference.high < 0.0 {
            Self::Reversed
        } else {
            Self::Open
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Reversed => "reversed",
            Self::Open => "open",
        }
    }

    pub fn verdict(self) -> Word {
        match self {
            Self::Kept => Word::Agrees,
            Self::Reversed => Word::Differs,
            Self::Open => Word::Inconclusive,
        }
    }
}

/// One verdict for a claim about several temperatures: what all of them come to; otherwise it differs where
/// any of them does.
pub fn at_all(verdicts: &[(f64, Verdict)]) -> Option<Verdict> {
    let [(_, first), rest @ ..] = verdicts else { return None };
    if rest.is_empty() {
        return Some(first.clone());
    }
    if rest.iter().all(|(_, other)| other.word == first.word) {
        let reason = format!("at each of {} temperatures: {}", verdicts.len(), first.reason);
        return Some(Verdict::new(first.word, reason));
    }
    let decided = [Word::NotComparable, Word::NoSignal, Word::Differs];
    let word = decided
        .into_iter()
        .find(|word| verdicts.iter().any(|(_, verdict)| verdict.word == *word))
        .unwrap_or(Word::Inconclusive);
    let each = verdicts
        .iter()
        .map(|(temperature, verdict)| format!("T = {temperature} {}", verdict.word.as_str()));
    Some(Verdict::new(word, each.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ours(low: f64, high: f64) -> Bounded {
        Bounded { value: f64::midpoint(low, high), low, high }
    }

    #[test]
    fn verdicts_by_hand() {
        let word = |region: Region, low, high| region.judge(ours(low, high), 1.0).word;
        let value = Region::about(0.16, 0.05);
        assert_eq!(word(value, 0.12, 0.2), Word::Agrees);
        assert_eq!(word(value, 0.12, 0.3), Word::Inconclusive);
        // Before, so wide an interval agreed with every value in it.
        assert_eq!(word(value, 0.0, 1.0), Word::Inconclusive);
        assert_eq!(word(value, 0.22, 0.3), Word::Differs);
        assert_eq!(word(value, f64::NAN, f64::NAN), Word::NotComparable);
        let least = Region::at_least(0.75);
        assert_eq!(word(least, 0.76, 0.9), Word::Agrees);
        assert_eq!(word(least, 0.7, 0.9), Word::Inconclusive);
        assert_eq!(word(least, 0.2, 0.7), Word::Differs);
        assert_eq!(word(Region::at_most(0.05), 0.0, 0.04), Word::Agrees);
        let order = |low, high| Order::of(ours(low, high));
        assert_eq!(order(0.1, 0.2), Order::Kept);
        assert_eq!(order(-0.2, -0.1), Order::Reversed);
        assert_eq!(order(-0.1, 0.2), Order::Open);
        assert_eq!(order(f64::NAN, f64::NAN), Order::Open);
    }

    #[test]
    fn temperatures_agree_together_or_not() {
        let verdict = |word| Verdict::new(word, "why");
        let all = |words: &[Word]| {
            let verdicts: Vec<(f64, Verdict)> =
                words.iter().map(|word| (0.5, verdict(*word))).collect();
            at_all(&verdicts).map(|verdict| verdict.word)
        };
        use Word::{Agrees, Differs, Inconclusive};
        assert_eq!(all(&[]), None);
        assert_eq!(all(&[Agrees]), Some(Agrees));
        assert_eq!(all(&[Agrees, Agrees]), Some(Agrees));
        assert_eq!(all(&[Agrees, Differs, Inconclusive]), Some(Differs));
        assert_eq!(all(&[Agrees, Inconclusive]), Some(Inconclusive));
    }

    proptest! {
        /// Widening an interval never creates an agreement, nor a difference, nor an order.
        #[test]
        fn a_wider_interval_never_decides_more(
            (low, width, more) in (-2.0f64..2.0, 0.0f64..2.0, (0.0f64..2.0, 0.0f64..2.0)),
            (least, extent) in (-2.0f64..2.0, 0.0f64..2.0),
            kind in 0..3u8,
        ) {
            let region = match kind {
                0 => Region { low: least, high: least + extent },
                1 => Region::at_least(least),
                _ => Region::at_most(least),
            };
            let narrow = ours(low, low + width);
            let wide = ours(low - more.0, low + width + more.1);
            let words = [narrow, wide].map(|interval| region.judge(interval, 1.0).word);
            prop_assert!(words[1] == Word::Inconclusive || words[0] == words[1], "{words:?}");
            let orders = [narrow, wide].map(Order::of);
            prop_assert!(orders[1] == Order::Open || orders[0] == orders[1], "{orders:?}");
        }
    }
}
