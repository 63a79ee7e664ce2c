//! What trainings and answers took on the machine.

use super::RunRecords;
use super::results::{Results, Variant};
use super::table::{Cell, Column, Table};

/// Name of the table of wall times: the only one that differs from run to run.
pub const COST: &str = "cost";

/// Parameters, wall times and rate, mean over seeds. Differs from run to run, so no snapshot and no
/// comparison may use it.
pub fn cost_table(results: &Results) -> Table {
    let mut table = Table::new(
        results.titled("Cost"),
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
    for variant in &results.variants {
        let mean = |value: &dyn Fn(&RunRecords) -> Option<f64>| {
            let values: Option<Vec<f64>> = variant.runs.iter().map(|run| value(run)).collect();
            let values = values.filter(|values| !values.is_empty());
            values.map_or(Cell::Missing, |v| Cell::number(v.iter().sum::<f64>() / v.len() as f64))
        };
        let rate = |run: &RunRecords| {
            let seconds = run.generate_cpu_seconds.filter(|seconds| *seconds > 0.0)?;
            Some(run.graphs as f64 / seconds)
        };
        let most = |bytes: &dyn Fn(&RunRecords) -> Option<u64>| {
            let most = variant.runs.iter().filter_map(|run| bytes(run)).max();
            most.map_or(Cell::Missing, |bytes| Cell::Integer(bytes >> 20))
        };
        table.push(vec![
            Cell::text(results.name(variant) + &variant.at_tokens()),
            variant.runs[0].parameters.map_or(Cell::Missing, Cell::Integer),
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
    table.notes.push(results.sample());
    table.notes.extend(trainings(&results.variants));
    table.notes.extend(results.input.dataset.labels.iter().cloned());
    table
}

/// What the trainings had to say, one line for each of them.
fn trainings(variants: &[Variant]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for run in variants.iter().flat_map(|variant| &variant.runs).filter(|run| !run.notes.is_empty())
    {
        let facts: Vec<String> =
            run.notes.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let line = format!("{}, seed {}: {}.", run.label, run.seed, facts.join("; "));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
