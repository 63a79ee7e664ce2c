//! Runs put together: what is compared, and one number with an interval for several seeds.

use std::collections::BTreeSet;

use super::figure::{Bounded, Style};
use super::statistics::Seeds;
use super::table::{Cell, Column, Table};
use super::{ReportInput, RunRecords};
use crate::evaluate::metric::{Family, IntervalKind, Metric, Unit};
use crate::evaluate::{Dimensions, Interval, Record, WHOLE, accuracy, effort};
use crate::probes;

/// Name of the table of wall times: the only one that differs from run to run.
pub const COST: &str = "cost";

/// All seeds of one generator, temperature and snapshot.
pub struct Arm<'a> {
    pub generator: &'a str,
    pub label: &'a str,
    pub temperature: f64,
    /// Mean over the seeds of the training tokens at the snapshot.
    pub tokens: Option<u64>,
    pub style: Style,
    pub runs: Vec<&'a RunRecords>,
}

/// Groups runs in order of first appearance. The n-th snapshots of the seeds belong together:
/// their token counts may differ a little, as they fall on whole steps.
pub fn arms<'a>(runs: &'a [RunRecords]) -> Vec<Arm<'a>> {
    arms_of(runs, |_| true)
}

/// The arms that figures with a series for each show: those that the experiment names, or all.
pub fn drawn<'a>(input: &ReportInput<'a>) -> Vec<Arm<'a>> {
    arms_of(input.runs, |run| input.drawn.is_empty() || input.drawn.contains(&run.generator))
}

fn arms_of<'a>(runs: &'a [RunRecords], keep: impl Fn(&RunRecords) -> bool) -> Vec<Arm<'a>> {
    let mut labels: Vec<&str> = Vec::new();
    let mut keys: Vec<(usize, u64, Option<usize>)> = Vec::new();
    let mut arms: Vec<Arm> = Vec::new();
    for run in runs.iter().filter(|run| keep(run)) {
        let label = labels.iter().position(|label| *label == run.label).unwrap_or_else(|| {
            labels.push(&run.label);
            labels.len() - 1
        });
        let key = (label, run.temperature.to_bits(), snapshot_index(runs, run));
        let place = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            arms.push(Arm {
                generator: &run.generator,
                label: &run.label,
                temperature: run.temperature,
                tokens: None,
                style: Style::Generator(label),
                runs: Vec::new(),
            });
            arms.len() - 1
        });
        arms[place].runs.push(run);
    }
    for arm in &mut arms {
        let tokens: Vec<u64> = arm.runs.iter().filter_map(|run| run.snapshot_tokens).collect();
        arm.tokens = tokens.iter().sum::<u64>().checked_div(tokens.len() as u64);
    }
    arms
}

/// How many earlier snapshots there are of the same training.
fn snapshot_index(runs: &[RunRecords], run: &RunRecords) -> Option<usize> {
    let tokens = run.snapshot_tokens?;
    let same = |other: &&RunRecords| {
        (&other.label, other.seed, other.temperature.to_bits())
            == (&run.label, run.seed, run.temperature.to_bits())
    };
    let mut earlier: Vec<u64> =
        runs.iter().filter(same).filter_map(|r| r.snapshot_tokens).collect();
    earlier.retain(|other| *other < tokens);
    earlier.sort_unstable();
    earlier.dedup();
    Some(earlier.len())
}

/// The description of a metric; `None` for an id that nothing describes.
pub fn describe(metric: &str) -> Option<&'static Metric> {
    Metric::find(metric).or_else(|| probes::METRICS.iter().find(|known| known.id == metric))
}

/// Whether a metric is shown in per cent.
pub fn is_share(metric: &str) -> bool {
    describe(metric).is_some_and(|metric| metric.unit == Unit::Fraction)
}

/// What stands behind a metric's name in a heading.
pub fn unit(metric: &str) -> &'static str {
    match describe(metric).map(|metric| metric.unit) {
        Some(Unit::Fraction) => "%",
        Some(Unit::Points) => "points",
        Some(Unit::Nats) => "nats",
        Some(Unit::NatsPerCall) => "nats per call",
        Some(Unit::Tokens | Unit::Count | Unit::Plain) | None => "",
    }
}

/// The family that a metric belongs to.
pub fn family(metric: &str) -> Option<Family> {
    describe(metric).map(|metric| metric.family)
}

/// Whether a metric counts graphs or prompts that are others for each seed.
fn is_proportion(metric: &str) -> bool {
    let wilson = IntervalKind::Wilson { independent: true };
    describe(metric).is_some_and(|metric| metric.interval == wilson)
}

/// One number for the records of several seeds; `None` without records.
///
/// With one seed the record is taken as it is. With several, the value is the mean over the seeds,
/// NaN if any is: averages over different sets are not compared. The interval of a proportion is
/// Wilson's for all prompts together, after their number was divided by the overdispersion of the
/// seeds (variance between seeds by what binomial chance explains, where above 1): at least as
/// wide as the pooled interval, wider where seeds disagree. The interval of any other metric
/// reaches from the lowest to the highest end of the seeds' own: conservative, as seeds share the
/// real graphs, so that their intervals are not independent.
pub fn combine(metric: &str, records: &[&Record]) -> Option<Bounded> {
    if let [record] = records {
        return Some(Bounded { value: record.value, low: record.low, high: record.high });
    }
    let n = records.len() as f64;
    let value = records.iter().map(|record| record.value).sum::<f64>() / n;
    if records.is_empty() {
        return None;
    }
    let interval = if value.is_nan() {
        Interval::NONE
    } else if is_proportion(metric) {
        proportion_interval(records)
    } else if records.iter().any(|record| record.low.is_nan() || record.high.is_nan()) {
        Interval::NONE
    } else {
        Interval {
            low: records.iter().map(|record| record.low).fold(f64::INFINITY, f64::min),
            high: records.iter().map(|record| record.high).fold(f64::NEG_INFINITY, f64::max),
        }
    };
    Some(Bounded { value, low: interval.low, high: interval.high })
}

fn proportion_interval(records: &[&Record]) -> Interval {
    let n = records.len() as f64;
    let count: u64 = records.iter().map(|record| record.count).sum();
    let hits: f64 = records.iter().map(|record| (record.value * record.count as f64).round()).sum();
    let pooled = hits / count as f64;
    let mean = records.iter().map(|record| record.value).sum::<f64>() / n;
    let between =
        records.iter().map(|record| (record.value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let chance = pooled * (1.0 - pooled) * n / count as f64;
    let overdispersion = if chance > 0.0 { (between / chance).max(1.0) } else { 1.0 };
    let wilson = Interval::wilson_share(pooled, count as f64 / overdispersion);
    Interval { low: wilson.low.min(mean), high: wilson.high.max(mean) }
}

impl Arm<'_> {
    /// The first failed seed and why. One failed seed fails the arm: the mean of the others would
    /// be over another set than that of the other arms.
    pub fn failure(&self) -> Option<String> {
        self.runs.iter().find_map(|run| {
            let reason = run.outcome.as_ref().err()?;
            Some(format!("seed {}: {reason}", run.seed))
        })
    }

    /// The number for `metric` about this; `None` if a seed failed or lacks it.
    pub fn estimate(&self, metric: &str, about: &Dimensions) -> Option<Bounded> {
        let records = self.runs.iter().map(|run| {
            let records = run.outcome.as_ref().ok()?;
            records.iter().find(|record| record.is(metric, about))
        });
        combine(metric, &records.collect::<Option<Vec<_>>>()?)
    }

    /// As [`Arm::estimate`], for figures.
    pub fn bounded(&self, metric: &str, about: &Dimensions) -> Bounded {
        self.estimate(metric, about).unwrap_or(Bounded::NONE)
    }

    /// As [`Arm::estimate`], for tables. Which failure it was, notes and rows say once.
    pub fn cell(&self, metric: &str, about: &Dimensions) -> Cell {
        match self.estimate(metric, about) {
            _ if self.failure().is_some() => Cell::Failed(String::new()),
            Some(bounded) => table_cell(metric, bounded),
            None => Cell::Missing,
        }
    }

    /// A row of a table: what the arm is, then numbers, of which the first says why a failed arm
    /// failed.
    pub fn row(&self, head: Vec<Cell>, metrics: &[(&str, Dimensions)]) -> Vec<Cell> {
        let mut cells: Vec<Cell> =
            metrics.iter().map(|(metric, about)| self.cell(metric, about)).collect();
        if let (Some(first), Some(reason)) = (cells.first_mut(), self.failure()) {
            *first = Cell::Failed(reason);
        }
        head.into_iter().chain(cells).collect()
    }

    /// Answers over all seeds.
    pub fn graphs(&self) -> u64 {
        self.runs.iter().map(|run| run.graphs).sum()
    }

    /// Answers behind a number over all seeds, 0 where there are none.
    pub fn answers(&self, metric: &str, about: &Dimensions) -> u64 {
        let records = self.runs.iter().filter_map(|run| run.outcome.as_ref().ok()).flatten();
        let inside = records.filter(|record| record.is(metric, about));
        inside.map(|record| record.count).sum()
    }

    /// What is known of each answer, by seed; `None` where a seed failed, or nothing was kept.
    pub fn units(&self) -> Option<Seeds<'_>> {
        let units = self.runs.iter().map(|run| Some((run.seed, run.units.as_ref()?)));
        units.collect::<Option<Seeds>>().filter(|_| self.failure().is_none())
    }

    /// Services that the prompts of all seeds ask for: the clusters behind intervals.
    pub fn services(&self) -> Option<u64> {
        let units = self.units()?;
        let names = units.iter().flat_map(|(_, units)| &units.services);
        Some(names.collect::<BTreeSet<_>>().len() as u64)
    }

    /// What the records of `metric` are about, in the order of the first run that has them.
    pub fn dimensions_of(&self, metric: &str) -> Vec<&Dimensions> {
        let records = self.runs.iter().filter_map(|run| run.outcome.as_ref().ok());
        let mut found = records.map(|records| {
            let of_metric = records.iter().filter(|record| record.metric == metric);
            of_metric.map(|record| &record.dimensions).collect::<Vec<_>>()
        });
        found.find(|found| !found.is_empty()).unwrap_or_default()
    }
}

/// The number as its metric is shown: in per cent or not.
pub fn table_cell(metric: &str, Bounded { value, low, high }: Bounded) -> Cell {
    match is_share(metric) {
        _ if value.is_nan() => Cell::Missing,
        true => Cell::Share { value, low, high },
        false => Cell::Number { value, low, high },
    }
}

/// Label of the arm; with its temperature where arms of several are shown.
pub fn name(arm: &Arm, arms: &[Arm]) -> String {
    match arms.iter().any(|other| other.temperature != arm.temperature) {
        true => format!("{}, T = {}", arm.label, arm.temperature),
        false => arm.label.to_owned(),
    }
}

/// Labels of the generators, in order of first appearance.
pub fn labels<'a>(arms: &[Arm<'a>]) -> Vec<&'a str> {
    let mut labels: Vec<&str> = Vec::new();
    for arm in arms {
        if !labels.contains(&arm.label) {
            labels.push(arm.label);
        }
    }
    labels
}

/// All temperatures, ascending, each once.
pub fn temperatures(arms: &[Arm]) -> Vec<f64> {
    let mut temperatures: Vec<f64> = arms.iter().map(|arm| arm.temperature).collect();
    temperatures.sort_by(f64::total_cmp);
    temperatures.dedup();
    temperatures
}

/// The values of a dimension in the records of `metric`, ascending.
pub fn values_of<T: Ord + Clone>(
    arms: &[Arm],
    metric: &str,
    dimension: impl Fn(&Dimensions) -> &Option<T>,
) -> Vec<T> {
    let about = arms.iter().flat_map(|arm| arm.dimensions_of(metric));
    let values: BTreeSet<&T> = about.filter_map(|about| dimension(about).as_ref()).collect();
    values.into_iter().cloned().collect()
}

/// What answers took in tokens, and what a mask left of the model; `None` where no arm is a language
/// model.
pub fn effort_table(input: &ReportInput, arms: &[Arm]) -> Option<Table> {
    let mut table = Table::new(
        format!("Effort: {}", input.title),
        vec![
            Column::text("generator"),
            Column::share("accuracy"),
            Column::estimate("tokens per prompt", ""),
            Column::estimate("tokens per accurate answer", ""),
            Column::estimate("feasible mass", ""),
        ],
    );
    let metrics = [
        (accuracy::ACCURACY, WHOLE),
        (effort::MODEL_TOKENS, WHOLE),
        (effort::TOKENS_PER_ACCURATE, WHOLE),
        (effort::FEASIBLE_MASS, WHOLE),
    ];
    for arm in arms.iter().filter(|arm| arm.estimate(effort::MODEL_TOKENS, &WHOLE).is_some()) {
        let snapshot = arm.tokens.map_or(String::new(), |tokens| format!(" at {tokens} tokens"));
        table.push(arm.row(vec![Cell::text(name(arm, arms) + &snapshot)], &metrics));
    }
    table.notes.push(
        "Tokens that went through the model: prompts, answers and forced tokens of all steps and attempts. Feasible mass: probability that the unmasked model gave the tokens that constrained decoding permitted, mean over the tokens that were drawn; where it is far below 1 the mask, and not the model, made the answers valid."
            .to_owned(),
    );
    table.notes.extend(super::notes::notes(input, arms));
    (!table.rows.is_empty()).then_some(table)
}

/// Parameters, wall times and rate, mean over seeds. Differs from run to run, so no snapshot and no
/// comparison may use it.
pub fn cost_table(input: &ReportInput, arms: &[Arm]) -> Table {
    let mut table = Table::new(
        format!("Cost: {}", input.title),
        vec![
            Column::text("generator"),
            Column::number("parameters", ""),
            Column::number("training", "s"),
            Column::number("training", "CPU s"),
            Column::number("generating", "s"),
            Column::number("generating", "CPU s"),
            Column::number("graphs per CPU second", ""),
            Column::number("memory, training", "MiB"),
            Column::number("memory, generating", "MiB"),
        ],
    );
    for arm in arms {
        let mean = |value: &dyn Fn(&RunRecords) -> Option<f64>| {
            let values: Option<Vec<f64>> = arm.runs.iter().map(|run| value(run)).collect();
            let values = values.filter(|values| !values.is_empty());
            values.map_or(Cell::Missing, |v| Cell::number(v.iter().sum::<f64>() / v.len() as f64))
        };
        let rate = |run: &RunRecords| {
            let seconds = run.generate_cpu_seconds.filter(|seconds| *seconds > 0.0)?;
            Some(run.graphs as f64 / seconds)
        };
        let most = |bytes: &dyn Fn(&RunRecords) -> Option<u64>| {
            let most = arm.runs.iter().filter_map(|run| bytes(run)).max();
            most.map_or(Cell::Missing, |bytes| Cell::Integer(bytes >> 20))
        };
        let tokens = arm.tokens.map_or(String::new(), |tokens| format!(" at {tokens} tokens"));
        table.push(vec![
            Cell::text(name(arm, arms) + &tokens),
            arm.runs[0].parameters.map_or(Cell::Missing, Cell::Integer),
            mean(&|run| run.train_seconds),
            mean(&|run| run.train_cpu_seconds),
            mean(&|run| run.generate_seconds),
            mean(&|run| run.generate_cpu_seconds),
            mean(&rate),
            most(&|run| run.train_bytes),
            most(&|run| run.generate_bytes),
        ]);
    }
    table.notes.push(
        "Means over seeds. Wall times depend on what shares the machine, processor (CPU) times of all threads hardly do. Memory: the most that the process held at once, with the graphs that it works on."
            .to_owned(),
    );
    table.notes.push(super::notes::sample(arms));
    table.notes.extend(trainings(arms));
    table.notes.extend(input.dataset.labels.iter().cloned());
    table
}

/// What the trainings had to say, one line for each of them.
fn trainings(arms: &[Arm]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for run in arms.iter().flat_map(|arm| &arm.runs).filter(|run| !run.notes.is_empty()) {
        let facts: Vec<String> =
            run.notes.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let line = format!("{}, seed {}: {}.", run.label, run.seed, facts.join("; "));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(metric: &'static str, value: f64, low: f64, high: f64, count: u64) -> Record {
        Record { metric, dimensions: WHOLE, value, low, high, count }
    }

    fn combined(records: &[Record]) -> Bounded {
        combine(records[0].metric, &records.iter().collect::<Vec<_>>()).expect("records")
    }

    #[test]
    fn one_seed_keeps_its_interval() {
        let one = combined(&[record("kl-top100/1", 0.5, 0.4, 0.7, 9)]);
        assert_eq!((one.value, one.low, one.high), (0.5, 0.4, 0.7));
        assert!(combine("kl-top100/1", &[]).is_none());
    }

    #[test]
    fn seeds_that_agree_are_pooled() {
        let seeds =
            [record("accuracy/1", 0.5, 0.3, 0.7, 20), record("accuracy/1", 0.5, 0.3, 0.7, 20)];
        let (both, wilson) = (combined(&seeds), Interval::wilson(20, 40));
        assert_eq!((both.value, both.low, both.high), (0.5, wilson.low, wilson.high));
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let seeds =
            [record("accuracy/1", 0.2, 0.1, 0.3, 1000), record("accuracy/1", 0.8, 0.7, 0.9, 1000)];
        let (both, pooled) = (combined(&seeds), Interval::wilson(1000, 2000));
        // Two seeds this far apart are worth a few prompts, not two thousand.
        assert!(both.low < 0.2 && both.high > 0.8 && pooled.low > 0.45, "{both:?}");
        let all =
            [record("accuracy/1", 1.0, 0.9, 1.0, 50), record("accuracy/1", 1.0, 0.9, 1.0, 50)];
        assert_eq!(
            (combined(&all).low, combined(&all).high),
            (Interval::wilson(100, 100).low, 1.0)
        );
    }

    #[test]
    fn other_metrics_take_the_hull() {
        let seeds =
            [record("edges-tv/1", 0.1, 0.05, 0.2, 9), record("edges-tv/1", 0.3, 0.25, 0.4, 9)];
        assert_eq!(combined(&seeds), Bounded { value: 0.2, low: 0.05, high: 0.4 });
        let nan =
            [record("edges-tv/1", 0.1, 0.05, 0.2, 9), record("edges-tv/1", f64::NAN, 0.0, 0.0, 0)];
        assert!(combined(&nan).value.is_nan() && combined(&nan).low.is_nan());
    }
}
