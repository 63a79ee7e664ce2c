//! Scales, ticks and labels of axes.

use crate::{display, number};

/// How values lie along an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    Linear {
        min: f64,
        max: f64,
    },
    /// Decimal logarithm; both ends above 0.
    Log {
        min: f64,
        max: f64,
    },
    /// Places 0, 1, 2 … with a name each.
    Names(Vec<String>),
}

/// An axis with what stands beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured, with the unit in brackets.
    pub label: String,
    pub scale: Scale,
    /// Values are shares: ticks are in per cent.
    pub percent: bool,
    /// Only whole numbers get ticks.
    pub whole: bool,
}

impl Axis {
    pub fn linear(label: &str, min: f64, max: f64) -> Self {
        let scale = Scale::Linear { min, max: if max > min { max } else { min + 1.0 } };
        Self { label: label.to_owned(), scale, percent: false, whole: false }
    }

    /// 0 to 100 %.
    pub fn share(label: &str) -> Self {
        Self { percent: true, ..Self::linear(label, 0.0, 1.0) }
    }

    /// From 0 to just above the largest of `values`; NaN is skipped.
    pub fn from_zero(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let max = largest(values).unwrap_or(1.0);
        Self::linear(label, 0.0, max * 1.05)
    }

    /// Whole decades around all positive `values`.
    pub fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut min, mut max) = (f64::INFINITY, 0.0f64);
        for value in values.into_iter().filter(|value| *value > 0.0 && value.is_finite()) {
            (min, max) = (min.min(value), max.max(value));
        }
        if max == 0.0 {
            (min, max) = (1.0, 10.0);
        }
        // Markers at the ends do not lie on the axes.
        let margin = 0.015 + 0.03 * (max.log10() - min.log10());
        let (low, high) = (min.log10() - margin, max.log10() + margin);
        let scale = Scale::Log { min: 10f64.powf(low), max: 10f64.powf(high) };
        Self { label: label.to_owned(), scale, percent: false, whole: false }
    }

    pub fn names(label: &str, names: Vec<String>) -> Self {
        let scale = Scale::Names(names);
        Self { label: label.to_owned(), scale, percent: false, whole: false }
    }

    pub fn percent(self) -> Self {
        Self { percent: true, ..self }
    }

    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// With all texts as they are drawn.
    pub fn shown(&self) -> Self {
        let scale = match &self.scale {
            Scale::Names(names) => {
                Scale::Names(names.iter().map(|name| display::name(name).into_owned()).collect())
            }
            numbers => numbers.clone(),
        };
        Self { label: display::name(&self.label).into_owned(), scale, ..self.clone() }
    }

    /// Place of `value` along the axis: 0 is its start, 1 its end. Values beyond a logarithmic
    /// axis lie at its ends.
    pub fn place(&self, value: f64) -> f64 {
        match &self.scale {
            Scale::Linear { min, max } => (value - min) / (max - min),
            Scale::Log { min, max } => {
                let log = value.max(*min).log10();
                ((log - min.log10()) / (max.log10() - min.log10())).min(1.0)
            }
            Scale::Names(names) => (value + 0.5) / names.len().max(1) as f64,
        }
    }

    /// Places and texts of about `count` ticks.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let text = |value: f64| {
            if self.percent {
                format!("{} %", number::short(value * 100.0))
            } else {
                number::short(value)
            }
        };
        let values = match &self.scale {
            Scale::Linear { min, max } => linear_ticks(*min, *max, count, self.whole),
            Scale::Log { min, max } => log_ticks(*min, *max, count),
            Scale::Names(names) => {
                // All names where there is room, else every second, fifth …
                let steps = [1, 2, 5, 10, 20, 50];
                let fits = |step: &&usize| names.len().div_ceil(**step) <= count.max(1);
                let step = steps.iter().find(fits).copied().unwrap_or(100);
                let shown = names.iter().enumerate().filter(|(index, _)| {
                    // Names count from 1: 5, 10, 15 rather than 1, 6, 11.
                    (index + 1).is_multiple_of(step) || (step > 1 && *index == 0)
                });
                return shown
                    .map(|(index, name)| (self.place(index as f64), name.clone()))
                    .collect();
            }
        };
        values.into_iter().map(|value| (self.place(value), text(value))).collect()
    }
}

fn largest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().filter(|value| value.is_finite() && *value > 0.0).reduce(f64::max)
}

/// Multiples of 1, 2 or 5 times a power of ten inside [min, max].
fn linear_ticks(min: f64, max: f64, count: usize, whole: bool) -> Vec<f64> {
    let rough = (max - min) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let mut step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power);
    if whole {
        step = step.max(1.0);
    }
    let first = (min / step - 1e-9).ceil() as i64;
    let last = (max / step + 1e-9).floor() as i64;
    (first..=last).map(|multiple| number::stable(multiple as f64 * step)).collect()
}

/// Powers of ten inside [min, max], thinned out to `count`; with 2 and 5 times them if few,
/// and evenly spaced numbers if these are few as well.
fn log_ticks(min: f64, max: f64, count: usize) -> Vec<f64> {
    let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
    let inside = |value: &f64| (min * 0.999..=max * 1.001).contains(value);
    let decades: Vec<f64> =
        (first..=last).map(|power| number::stable(10f64.powi(power))).filter(inside).collect();
    if decades.len() < 3 {
        let fine = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10f64.powi(power)));
        let fine: Vec<f64> = fine.map(number::stable).filter(inside).collect();
        return if fine.len() < 3 { linear_ticks(min, max, count, false) } else { fine };
    }
    let step = decades.len().div_ceil(count.max(1));
    decades.into_iter().step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis, count: usize) -> Vec<String> {
        axis.ticks(count).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            texts(&Axis::share("accuracy"), 5),
            ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
        );
        assert_eq!(
            texts(&Axis::linear("depth", 0.5, 6.5).whole(), 9),
            ["1", "2", "3", "4", "5", "6"]
        );
        assert_eq!(texts(&Axis::log("tokens", [1e3, 1e6]), 5), ["1k", "10k", "100k", "1M"]);
        assert_eq!(texts(&Axis::log("KL", [0.15, 3.0]), 5), ["0.2", "0.5", "1", "2"]);
        assert_eq!(
            texts(&Axis::log("perplexity", [1.5, 1.9]), 8),
            ["1.5", "1.6", "1.7", "1.8", "1.9"]
        );
        let names = Axis::names("edges", (1..=12).map(|n| n.to_string()).collect());
        assert_eq!(texts(&names, 4), ["1", "5", "10"]);
        assert_eq!(texts(&Axis::linear("flat", 2.0, 2.0), 2), ["2", "2.5", "3"]);
    }

    #[test]
    fn places() {
        let axis = Axis::log("share", [0.001, 1.0]);
        assert!(axis.place(0.0) == 0.0 && axis.place(5.0) == 1.0);
        assert!((axis.place(0.0316) - 0.5).abs() < 0.01);
        assert_eq!(Axis::names("", vec!["a".into(), "b".into()]).place(1.0), 0.75);
    }
}
