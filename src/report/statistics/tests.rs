//! Reference values: tests/reference/statistics.py.

use proptest::prelude::*;

use super::significance::{seeds_differ, services_differ};
use super::*;

const METRIC: &Metric = &Metric::fraction("hit/1", "a hit").wilson();
const OTHER: &Metric = &Metric::fraction("miss/1", "a miss").wilson();

/// Prompts about services with values, in this order.
fn units(values: &[(&str, f64)]) -> PromptScores {
    let prompts = (0..values.len() as u64).collect();
    let mut units =
        PromptScores::of(prompts, values.iter().map(|(name, _)| (*name).into()).collect());
    units.add(METRIC, values.iter().map(|(_, value)| *value).collect());
    units
}

/// Four prompts about each of the services, of which a share is answered well.
fn shares(of: &[f64]) -> PromptScores {
    const NAMES: [&str; 12] =
        ["S_0", "S_1", "S_2", "S_3", "S_4", "S_5", "S_6", "S_7", "S_8", "S_9", "S_A", "S_B"];
    let prompts = of.iter().zip(NAMES).flat_map(|(share, name)| {
        (0..4).map(move |prompt| (name, f64::from(u8::from(f64::from(prompt) < share * 4.0))))
    });
    units(&prompts.collect::<Vec<_>>())
}

/// Twelve services that take these shares by turns.
fn twelve(of: &[f64]) -> PromptScores {
    shares(&of.iter().copied().cycle().take(12).collect::<Vec<_>>())
}

fn seeds(units: &[PromptScores]) -> Seeds<'_> {
    (0..).zip(units).collect()
}

fn compared(one: &[PromptScores], other: &[PromptScores]) -> Comparison {
    let services = Services::new(one.iter().chain(other));
    let resampling = Resampling::new(&services);
    compare([&seeds(one), &seeds(other)], METRIC, &services, &resampling).expect("a metric")
}

fn estimated(of: &[PromptScores]) -> Bounded {
    let services = Services::new(of.iter());
    let sample = Sample::of(&seeds(of), METRIC, &services).expect("a metric");
    sample.estimate(&Resampling::new(&services))
}

fn close(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} {expected}");
}

#[test]
fn holm_as_statsmodels_has_it() {
    let corrected = holm(&[0.01, 0.04, f64::NAN, 0.03, 0.005, 0.5, 0.04]);
    let expected = [0.05, 0.12, f64::NAN, 0.12, 0.03, 0.5, 0.12];
    for (value, expected) in corrected.iter().zip(expected) {
        assert!(value.is_nan() && expected.is_nan() || (value - expected).abs() < 1e-12);
    }
    assert_eq!(holm(&[0.6, 0.9]), [1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}

#[test]
fn permutation_tests_as_scipy_has_them() {
    close(services_differ(&[0.5, -0.1, 0.3, 0.25, -0.05, 0.4, 0.2, 0.1]), 0.046875);
    close(services_differ(&[0.1, 0.2, 0.3]), 0.25);
    // With one prompt per service this is McNemar's exact test.
    let discordant = [[1.0; 9].as_slice(), &[-1.0; 3], &[0.0; 20]].concat();
    close(services_differ(&discordant), 0.145_996_093_75);
    let many: Vec<f64> = (0..40).map(|i| f64::from(37 * i % 41 - 14) / 100.0).collect();
    let p = services_differ(&many);
    assert!((p - 0.002).abs() < 0.001_5, "{p}");
    assert_eq!(p, services_differ(&many));
    assert_eq!(services_differ(&[0.0, 0.0]), 1.0);
    assert!(services_differ(&[]).is_nan() && services_differ(&[0.1, f64::NAN]).is_nan());
}

#[test]
fn seeds_are_tested_as_scipy_does() {
    close(seeds_differ(&[0.02, 0.05, 0.03]).unwrap(), 0.063_414_188_418_306_04);
    close(seeds_differ(&[-0.02, 0.05, 0.03, 0.01, 0.04]).unwrap(), 0.150_944_053_659_677_18);
    assert!(seeds_differ(&[0.02]).is_none() && seeds_differ(&[]).is_none());
    assert_eq!(seeds_differ(&[0.0, 0.0]), Some(1.0));
    assert_eq!(seeds_differ(&[0.5, 0.5]), Some(0.0));
}

#[test]
fn improvement_is_that_of_mann_and_whitney() {
    let one = [[0.75, 0.5, 1.0], [0.5, 0.5, 0.75], [1.0, 0.25, 0.75]].map(|seed| shares(&seed));
    let other = [[0.5, 0.5, 0.25], [0.75, 0.75, 1.0], [0.25, 0.5, 0.5]].map(|seed| shares(&seed));
    close(compared(&one, &other).improvement.value, 0.574_074_074_074_074_1);
    close(compared(&other, &one).improvement.value, 0.425_925_925_925_925_9);
}

#[test]
fn effects_by_statsmodels() {
    let (three, two) = ([shares(&[0.75, 0.75])], [shares(&[0.5, 0.5])]);
    close(compared(&three, &two).effect, 0.523_598_775_598_298_5);
    let numbers = |values: [f64; 4]| {
        let names = ["S_0", "S_0", "S_1", "S_1"];
        [units(&names.into_iter().zip(values).collect::<Vec<_>>())]
    };
    let found = compared(&numbers([1.0, 2.0, 4.0, 3.5]), &numbers([0.5, 1.0, 3.0, 2.0]));
    close(found.effect, 0.8);
    close(found.difference.value, 1.0);
}

#[test]
fn identical_variants_do_not_differ() {
    let variant = [[0.75, 0.25, 1.0], [0.5, 0.5, 0.75]].map(|shares| twelve(&shares));
    let found = compared(&variant, &variant);
    let none = Bounded { value: 0.0, low: 0.0, high: 0.0 };
    assert_eq!((found.difference, found.effect, found.p, found.paired), (none, 0.0, 1.0, true));
    assert_eq!(found.improvement, Bounded { value: 0.5, low: 0.5, high: 0.5 });
    assert_eq!((found.prompts, found.services), (96, 12));
}

#[test]
fn a_difference_must_stand_up_to_other_trainings() {
    let high = |_| twelve(&[1.0]);
    let low = twelve(&[0.25, 0.5]);
    // One seed: all twelve services agree, two of 4,096 signs are as far.
    let one = compared(&[high(0)], std::slice::from_ref(&low));
    close(one.p, 2.0 / 4_096.0);
    assert_eq!((one.improvement.value, one.improvement.low), (1.0, Interval::wilson(12, 12).low));
    // Two seeds that disagree: no matter how many services say so.
    let both = compared(&[high(0), low.clone()], &[low.clone(), low.clone()]);
    assert!(both.p > 0.4, "{both:?}");
    assert!(both.difference.low <= 0.0 && both.difference.high > 0.5, "{both:?}");
}

#[test]
fn other_prompts_are_not_paired() {
    let one = [shares(&[0.75, 0.25])];
    let mut others = [shares(&[0.5, 0.25])];
    others[0].prompts[3] = 99;
    let found = compared(&one, &others);
    assert!(!found.paired && found.p.is_nan());
    close(found.difference.value, 0.125);
}

#[test]
fn seeds_that_one_arm_lacks_do_not_count() {
    let one = [twelve(&[0.75, 0.25])];
    let two = [twelve(&[0.5, 0.25]), twelve(&[1.0])];
    let (found, alone) = (compared(&one, &two), compared(&one, &two[..1]));
    assert!(found.paired && found.prompts == alone.prompts);
    assert_eq!((found.difference, found.p), (alone.difference, alone.p));
}

#[test]
fn prompts_without_a_value_do_not_count() {
    let one = [units(&[("S_0", 1.0), ("S_0", f64::NAN), ("S_1", 0.0), ("S_1", 1.0)])];
    let other = [units(&[("S_0", f64::NAN), ("S_0", 1.0), ("S_1", 0.0), ("S_1", 0.0)])];
    let found = compared(&one, &other);
    // S_0 has no prompt that both have a value for.
    assert_eq!((found.prompts, found.services), (2, 1));
    close(found.difference.value, 0.5);
    let nothing = [units(&[("S_0", f64::NAN), ("S_1", f64::NAN)])];
    let found = compared(&nothing, &nothing);
    assert!(found.difference.value.is_nan() && found.difference.low.is_nan() && found.p.is_nan());
    assert!(found.improvement.value.is_nan() && found.effect.is_nan());
    assert!(estimated(&nothing).value.is_nan());
    let services = Services::new(one.iter());
    assert!(Sample::of(&seeds(&one), OTHER, &services).is_none());
}

/// A mean over 400 services of one prompt has the standard error σ/√n; one over four seeds that
/// differ has that of the seeds.
#[test]
fn intervals_know_services_and_seeds() {
    let seed = |hit: fn(u32) -> bool| {
        let names: Vec<String> = (0..400).map(|index| format!("S_{index:03}")).collect();
        let values = names
            .iter()
            .zip(0..)
            .map(|(name, index)| (name.as_str(), f64::from(u8::from(hit(index)))));
        units(&values.collect::<Vec<_>>())
    };
    let half = estimated(&[seed(|index| index % 2 == 0)]);
    assert!((half.low - 0.451).abs() < 0.008 && (half.high - 0.549).abs() < 0.008, "{half:?}");
    // Means 0, 1, 0, 1: standard error √(1/3 / 4) = 0.289.
    let none = seed(|_| false);
    let all = seed(|_| true);
    let seeds = estimated(&[none.clone(), all.clone(), none, all.clone()]);
    assert!(seeds.low == 0.0 && seeds.high == 1.0, "{seeds:?}");
    // Certainty is not had from 400 answers.
    let certain = estimated(&[all]);
    assert_eq!((certain.value, certain.high), (1.0, 1.0));
    assert_eq!(certain.low, Interval::wilson(400, 400).low);
    // One service tells nothing of others.
    assert!(estimated(&[units(&[("S_0", 1.0), ("S_0", 0.0)])]).low.is_nan());
}

/// Three of four seeds are drawn: of 64 draws one has the mean 0 and three ⅓, so that the 2.5 % point
/// is ⅓ whatever the services.
#[test]
fn an_interval_over_seeds_is_exact() {
    let names = ["S_0", "S_1", "S_2", "S_3", "S_4", "S_5", "S_6", "S_7", "S_8", "S_9"];
    let seed = |value| units(&names.map(|name| (name, value)));
    let found = estimated(&[0.0, 1.0, 2.0, 3.0].map(seed));
    close(found.value, 1.5);
    close(found.low, 1.0 / 3.0);
    close(found.high, 8.0 / 3.0);
}

/// Trainings that answer the same prompts alike have seen these prompts once.
#[test]
fn three_identical_seeds_have_the_interval_of_one() {
    let of =
        |seeds: &[PromptScores]| fraction(&super::tests::seeds(seeds), METRIC).expect("a metric");
    for shares in [&[0.75, 0.25, 0.5][..], &[1.0]] {
        let seed = twelve(shares);
        let one = of(std::slice::from_ref(&seed));
        let three = of(&[seed.clone(), seed.clone(), seed]);
        assert!(one.low < one.value && (one.low, one.high) == (three.low, three.high), "{three:?}");
    }
    let bounded = |value, low, high| Bounded { value, low, high };
    let seed = bounded(0.5, 0.3, 0.8);
    let three = of_seeds(&[seed, seed, seed]).expect("seeds");
    close(three.low, 0.3);
    close(three.high, 0.8);
    // Student's 4.303 over three seeds of standard deviation 0.1: 0.248, with 0.1 on each side.
    let seeds = [0.4, 0.5, 0.6].map(|value| bounded(value, value - 0.1, value + 0.1));
    let apart = of_seeds(&seeds).expect("seeds");
    close(apart.low, 0.5 - 0.1f64.hypot(4.302_652_729_696_142 * 0.1 / 3f64.sqrt()));
    let none = [bounded(0.4, f64::NAN, f64::NAN), seed];
    assert!(of_seeds(&none).expect("seeds").low.is_nan() && of_seeds(&[]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn intervals_hold_values_and_order_does_not_matter(
        answers in proptest::collection::vec((0..5usize, any::<bool>(), any::<bool>()), 10..40),
    ) {
        const NAMES: [&str; 5] = ["S_0", "S_1", "S_2", "S_3", "S_4"];
        let variant = |of: &[(usize, bool, bool)], first: bool| {
            let values = of.iter().map(|(service, one, other)| {
                (NAMES[*service], f64::from(u8::from(if first { *one } else { *other })))
            });
            units(&values.collect::<Vec<_>>())
        };
        let mut shuffled = answers.clone();
        shuffled.reverse();
        let found = compared(&[variant(&answers, true)], &[variant(&answers, false)]);
        let again = compared(&[variant(&shuffled, true)], &[variant(&shuffled, false)]);
        // Debug texts, since there may be NaN.
        prop_assert_eq!(format!("{found:?}"), format!("{again:?}"));
        for bounded in [found.difference, found.improvement] {
            let Bounded { value, low, high } = bounded;
            prop_assert!(low.is_nan() || (low <= value && value <= high));
        }
        prop_assert!((0.0..=1.0).contains(&found.p));
        let turned = compared(&[variant(&answers, false)], &[variant(&answers, true)]);
        prop_assert!((turned.difference.value + found.difference.value).abs() < 1e-12);
        prop_assert!((turned.p - found.p).abs() < 1e-12);
        prop_assert!((turned.improvement.value + found.improvement.value - 1.0).abs() < 1e-9);
    }
}
