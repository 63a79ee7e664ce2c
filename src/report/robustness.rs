//! Whether generators come in the same order by other choices: by other metrics, at other temperatures, of one
//! training alone.

use super::ReportFiles;
use super::figure::{Axis, Bounded, Content, Line, Lines, PAGE, Panel, Style};
use super::results::{Columns, Found, Results, Row, Variant, number_cell};
use super::table::{Cell, Column, Table};
use crate::records::{Better, Interval};

/// Fewest generators whose order says anything.
const FEWEST: usize = 3;

/// Numbers of all generators by one choice, larger ones better.
struct Choice {
    name: String,
    /// By generator; `None` for one without a number.
    numbers: Vec<Option<Number>>,
}

struct Number {
    value: f64,
    /// What it is for each draw of services; empty where that is not known.
    resamples: Vec<f64>,
}

/// The table and figure `robustness`: Kendall's tau between the order of generators by the first of `columns`
/// at the first temperature and that by every other choice.
pub fn robustness(results: &Results, columns: &Columns) -> ReportFiles {
    let mut files = ReportFiles::default();
    let choices = choices(results, columns);
    let Some((first, others)) = choices.split_first() else { return files };
    let compared: Vec<(&Choice, usize, Bounded)> = others
        .iter()
        .map(|other| {
            let (generators, tau) = agreement(first, other);
            (other, generators, tau)
        })
        .collect();
    files.table("robustness", table(results, first, &compared));
    files.figure("robustness", {
        let points = compared.iter().enumerate().flat_map(|(place, (.., tau))| {
            // Nothing in between: they are points, not a curve.
            [(place as f64, *tau), (place as f64 + 0.5, Bounded::NONE)]
        });
        let label = "Kendall's tau".to_owned();
        let line =
            Line { label, style: Style::Generator(0), points: points.collect(), markers: true };
        let names = compared.iter().map(|(choice, ..)| choice.name.clone());
        let panel = Panel {
            title: String::new(),
            x: Axis::names("", names.collect()),
            y: Axis::linear("Kendall's tau", -1.0, 1.0),
            content: Content::Lines(Lines { lines: vec![line], levels: Vec::new() }),
        };
        let title = format!("Order of generators against that by {}", first.name);
        results.figure(&title, vec![panel], PAGE, 360.0, MEANING)
    });
    files
}

const MEANING: &str = "Kendall's tau-b of the order of generators, best first: 1 the same order, 0 no more alike than by chance, −1 the other way round. Intervals: all generators ranked anew on each of the draws of services that they share.";

fn table(results: &Results, first: &Choice, compared: &[(&Choice, usize, Bounded)]) -> Table {
    let columns = vec![
        Column::text("order by"),
        Column::number("generators", ""),
        Column::estimate("Kendall's tau", ""),
        Column::text("best"),
    ];
    let title = results.titled(&format!("Order of generators against that by {}", first.name));
    let mut table = Table::new(title, columns);
    let labels = results.labels();
    let best = |choice: &Choice| {
        let known = choice.numbers.iter().zip(&labels);
        let known = known.filter_map(|(number, label)| Some((number.as_ref()?.value, *label)));
        let best = known.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Cell::Missing, |(_, label)| Cell::text(label))
    };
    let whole = Bounded { value: 1.0, ..Bounded::NONE };
    let known = first.numbers.iter().flatten().count();
    let rows = [(first, known, whole)].into_iter().chain(compared.iter().copied());
    for (choice, generators, tau) in rows {
        table.push(vec![
            Cell::text(choice.name.as_str()),
            Cell::Integer(generators as u64),
            number_cell(tau),
            best(choice),
        ]);
    }
    for variant in &results.variants {
        if let Some(reason) = variant.failure() {
            let name = Cell::text(results.name(variant));
            table.push(vec![name, Cell::Missing, Cell::Failed(reason), Cell::Missing]);
        }
    }
    table.notes.push(MEANING.into());
    table.notes.push("Generators without a temperature are the same at all of them. One dataset: run the experiment on others, and with other `compared`, to see the order there.".into());
    table.notes.extend(results.notes());
    table
}

/// Every column at every temperature, then the first column for each seed that all generators have.
fn choices(results: &Results, Columns { entries, .. }: &Columns) -> Vec<Choice> {
    let found = results.find(entries);
    // In the order of the experiment, which names first what it compares the others with.
    let mut temperatures: Vec<f64> = Vec::new();
    for variant in &results.variants {
        if !temperatures.contains(&variant.temperature) {
            temperatures.push(variant.temperature);
        }
    }
    let labels = results.labels();
    let variant = |label: &str, temperature: f64| {
        let mut variants = results.variants.iter().filter(|variant| variant.label == label);
        let only = variants.clone().count() == 1;
        variants.find(|variant| only || variant.temperature == temperature)
    };
    let mut choices = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let sign = match entry.metric.better {
            Better::Higher => 1.0,
            Better::Lower => -1.0,
            Better::AsReal | Better::Neither => continue,
        };
        for temperature in &temperatures {
            let of = |label: &&str| {
                let variant = variant(label, *temperature)?;
                let value = found.estimate(variant, place)?.value;
                number(results, found.rows(variant, place), value, sign)
            };
            let numbers = labels.iter().map(of).collect();
            let at = match temperatures.len() {
                1 => String::new(),
                _ => format!(", T = {temperature}"),
            };
            choices.push(Choice { name: format!("{}{at}", entry.heading), numbers });
        }
        if choices.len() == temperatures.len() {
            let variants: Vec<Option<&Variant>> =
                labels.iter().map(|label| variant(label, temperatures[0])).collect();
            choices.extend(by_seed(results, &found, place, (&entry.heading, sign), &variants));
        }
    }
    choices
}

/// The first column of each seed alone.
fn by_seed(
    results: &Results,
    found: &Found,
    place: usize,
    (heading, sign): (&str, f64),
    variants: &[Option<&Variant>],
) -> Vec<Choice> {
    let known = || variants.iter().flatten().filter(|variant| variant.failure().is_none());
    let Some(first) = known().next() else { return Vec::new() };
    let seeds = first.runs.iter().map(|run| run.seed);
    let everywhere =
        |seed: &u64| known().all(|variant| variant.runs.iter().any(|run| run.seed == *seed));
    let seeds: Vec<u64> = seeds.filter(everywhere).collect();
    if seeds.len() < 2 {
        return Vec::new();
    }
    let choice = |seed: &u64| {
        let of = |variant: &Option<&Variant>| {
            let variant = (*variant)?;
            let at = variant.runs.iter().position(|run| run.seed == *seed)?;
            let rows = found.rows(variant, place);
            let row = rows.get(at).filter(|_| rows.len() == variant.runs.len())?;
            number(results, std::slice::from_ref(row), row.estimate.value, sign)
        };
        let numbers = variants.iter().map(of).collect();
        Choice { name: format!("{heading}, seed {seed} alone"), numbers }
    };
    seeds.iter().map(choice).collect()
}

/// A number of several seeds with its resamples, each moved to where their mean is the number.
fn number(results: &Results, rows: &[Row], value: f64, sign: f64) -> Option<Number> {
    if value.is_nan() {
        return None;
    }
    let resamples: Option<Vec<&Vec<f64>>> =
        rows.iter().map(|row| Some(&results.resamples(row)?.values)).collect();
    let seeds = resamples.unwrap_or_default();
    let draws = seeds.iter().map(|values| values.len()).min().unwrap_or(0);
    let mean_of = |draw: usize| seeds.iter().map(|values| values[draw]).sum::<f64>();
    let drawn: Vec<f64> = (0..draws).map(|draw| mean_of(draw) / seeds.len() as f64).collect();
    let mean = drawn.iter().sum::<f64>() / draws as f64;
    let resamples = drawn.into_iter().map(|drawn| sign * (drawn - mean + value)).collect();
    Some(Number { value: sign * value, resamples })
}

/// How many generators have both numbers, and Kendall's tau of their orders.
fn agreement(one: &Choice, other: &Choice) -> (usize, Bounded) {
    let both = one.numbers.iter().zip(&other.numbers);
    let both: Vec<(&Number, &Number)> =
        both.filter_map(|(one, other)| one.as_ref().zip(other.as_ref())).collect();
    if both.len() < FEWEST {
        return (both.len(), Bounded::NONE);
    }
    let values: Vec<(f64, f64)> =
        both.iter().map(|(one, other)| (one.value, other.value)).collect();
    let value = kendall(&values);
    let draws = both.iter().flat_map(|(one, other)| [one, other]).map(|one| one.resamples.len());
    let draws = draws.min().unwrap_or(0);
    let drawn = (0..draws).map(|draw| {
        let values = both.iter().map(|(one, other)| (one.resamples[draw], other.resamples[draw]));
        kendall(&values.collect::<Vec<_>>())
    });
    let Interval { low, high } = Interval::percentiles(&drawn.collect::<Vec<_>>());
    // `min` and `max` would drop a NaN.
    let interval = if low.is_nan() { (low, high) } else { (low.min(value), high.max(value)) };
    (both.len(), Bounded { value, low: interval.0, high: interval.1 })
}

/// Kendall's tau-b (1945): concordant minus discordant pairs over the root of the pairs that each side tells
/// apart; NaN where one side tells none apart.
fn kendall(pairs: &[(f64, f64)]) -> f64 {
    let (mut sum, mut apart) = (0.0, [0.0f64; 2]);
    for (place, one) in pairs.iter().enumerate() {
        for other in &pairs[..place] {
            let side = |one: f64, other: f64| f64::from(one > other) - f64::from(one < other);
            let signs = [side(one.0, other.0), side(one.1, other.1)];
            sum += signs[0] * signs[1];
            apart.iter_mut().zip(signs).for_each(|(apart, sign)| *apart += sign.abs());
        }
    }
    sum / (apart[0] * apart[1]).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of scipy.stats.kendalltau.
    #[test]
    fn tau_as_scipy_has_it() {
        let one = [12.0, 2.0, 1.0, 12.0, 2.0];
        let other = [1.0, 4.0, 7.0, 1.0, 0.0];
        let pairs: Vec<(f64, f64)> = one.into_iter().zip(other).collect();
        assert!((kendall(&pairs) - -0.471_404_520_791_031_7).abs() < 1e-12);
        let same: Vec<(f64, f64)> = one.into_iter().zip(one).collect();
        assert_eq!(kendall(&same), 1.0);
        assert!(kendall(&[(1.0, 2.0), (1.0, 3.0)]).is_nan());
    }

    #[test]
    fn an_order_that_draws_change_is_unsure() {
        let number = |value: f64, swing: f64| {
            let drawn = |draw: i32| value + swing * f64::from(draw % 3 - 1);
            Some(Number { value, resamples: (0..200).map(drawn).collect() })
        };
        let choice = |numbers: Vec<Option<Number>>| Choice { name: String::new(), numbers };
        let sure = choice(vec![number(1.0, 0.0), number(2.0, 0.0), number(3.0, 0.0), None]);
        let same =
            choice(vec![number(5.0, 0.0), number(6.0, 0.0), number(9.0, 0.0), number(0.0, 0.0)]);
        let unsure = choice(vec![number(1.0, 1.5), number(2.0, 0.0), number(3.0, -1.5), None]);
        let all = Bounded { value: 1.0, low: 1.0, high: 1.0 };
        assert_eq!(agreement(&sure, &same), (3, all));
        let (generators, found) = agreement(&sure, &unsure);
        assert!(generators == 3 && found.value == 1.0 && found.low < 0.5, "{found:?}");
        let few = choice(vec![number(1.0, 0.0), number(2.0, 0.0), None, None]);
        assert!(agreement(&sure, &few).1.value.is_nan());
    }
}
