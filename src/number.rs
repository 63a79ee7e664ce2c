//! Numbers as text, such that the last bits of a float never show.
//!
//! Machines of one architecture agree on `+ - * / sqrt`, but not on the last bit of logarithms and
//! exponentials (the C library picks an implementation by CPU), and sums may be taken in another
//! order. So a float is first rounded to [`STABLE_DIGITS`] decimal digits, which noise of a few
//! last bits does not reach, and its text is made from these digits only. Ties such as 1/512 at
//! six digits are decided by the same digits everywhere. docs/snapshots.md says more.

/// Decimal digits in which machines agree.
const STABLE_DIGITS: usize = 12;

/// Digits written to CSV.
const CSV_DIGITS: usize = 6;

/// Digits of a number in print.
const PRINT_DIGITS: usize = 3;

/// `value` to 12 significant decimal digits; −0 becomes 0.
pub fn stable(value: f64) -> f64 {
    rounded(value, STABLE_DIGITS)
}

/// `value` to so many significant digits. NaN and infinities stay what they are.
fn rounded(value: f64, digits: usize) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value + 0.0;
    }
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

/// Six significant digits, shortest form; NaN is `n/a`.
pub fn csv(value: f64) -> String {
    if value.is_nan() { "n/a".to_owned() } else { rounded(stable(value), CSV_DIGITS).to_string() }
}

/// Three significant digits with their trailing zeros, all digits of the whole part, powers of ten
/// below 0.001; NaN is `n/a`.
pub fn print(value: f64) -> String {
    print_beside(value, value)
}

/// `other` with as many decimals as `value` has in print: the ends of its interval.
pub fn print_beside(value: f64, other: f64) -> String {
    let (value, other) = (stable(value), stable(other));
    if other.is_nan() {
        return "n/a".to_owned();
    }
    // The exponent is read off the decimal text: a logarithm could be off by one at powers of ten.
    let scientific = format!("{value:.*e}", PRINT_DIGITS - 1);
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, text)| text.parse().ok()).unwrap_or(0);
    if exponent < -3 {
        return format!("{other:.*e}", PRINT_DIGITS - 1);
    }
    let decimals = (PRINT_DIGITS as i32 - 1 - exponent).max(0) as usize;
    format!("{other:.decimals$}")
}

/// A share in per cent with one decimal, without the sign; NaN is `n/a`.
pub fn percent(share: f64) -> String {
    if share.is_nan() { "n/a".to_owned() } else { format!("{:.1}", stable(stable(share) * 100.0)) }
}

/// Digits in groups of three, as in `1,200,000`.
pub fn grouped(value: u64, separator: &str) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push_str(separator);
        }
        text.push(digit);
    }
    text
}

/// `12`, `3.5k`, `1.2M`, `4G`: at most three digits, for axes.
pub fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(size, _)| value.abs() >= *size) {
        Some((size, unit)) => format!("{}{unit}", rounded(stable(value / size), PRINT_DIGITS)),
        None => rounded(stable(value), PRINT_DIGITS).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits() {
        assert_eq!(csv(1.0 / 3.0), "0.333333");
        assert_eq!(csv(123_456_789.0), "123457000");
        assert_eq!((csv(-0.0), csv(f64::NAN), csv(2.0)), ("0".into(), "n/a".into(), "2".into()));
        assert_eq!(
            (print(0.16), print(3.84), print(1234.5)),
            ("0.160".into(), "3.84".into(), "1234".into())
        );
        assert_eq!((print(0.0), print_beside(0.1, 0.04)), ("0.00".into(), "0.040".into()));
        assert_eq!((print(0.0999999), print(0.00012345)), ("0.100".into(), "1.23e-4".into()));
        assert_eq!(
            (percent(0.7675), percent(1.0), percent(0.0)),
            ("76.8".into(), "100.0".into(), "0.0".into())
        );
        assert_eq!((grouped(1_234_567, " "), grouped(12, " ")), ("1 234 567".into(), "12".into()));
        assert_eq!(
            (short(1_200_000.0), short(0.2), short(950.0)),
            ("1.2M".into(), "0.2".into(), "950".into())
        );
    }

    proptest! {
        /// What another machine's logarithm may do to a result does not reach the text, except
        /// within 1e-12 of a rounding boundary, where random numbers hardly ever are.
        #[test]
        fn last_bits_do_not_show(value in 1e-6..1e6f64, ulps in 1..4u64) {
            let other = f64::from_bits(value.to_bits() + ulps);
            prop_assert_eq!(csv(value), csv(other));
            prop_assert_eq!(print(value), print(other));
            prop_assert_eq!(percent(value), percent(other));
        }

        /// Nor do they at ties, which counts do meet: k / 512 has nine decimals ending in 5.
        #[test]
        fn ties_hold_still(k in 1..512u64, ulps in 1..4u64) {
            let value = k as f64 / 512.0;
            let (up, down) = (f64::from_bits(value.to_bits() + ulps), f64::from_bits(value.to_bits() - ulps));
            prop_assert_eq!(csv(value), csv(up));
            prop_assert_eq!(csv(value), csv(down));
            prop_assert_eq!(percent(value), percent(down));
        }
    }
}
