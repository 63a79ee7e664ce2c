//! Training.

use std::fmt::Display;

use anyhow::Result;
use burn::tensor::Device;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::columns::{ATTRIBUTES, Attributes, Columns, Row};
use super::network::{self, Batch, TvaeShape};
use super::{ID, TvaeSettings};
use crate::graph::{CallGraph, Condition};
use crate::model::neural::{Learner, Parameters, Schedule};
use crate::progress::Progress;
use crate::random;

/// Losses in the mean that is reported.
const LAST: usize = 200;

/// All calls of the training graphs.
struct Table {
    /// Rows with the index of their graph.
    rows: Vec<(Row, u32)>,
    /// By graph.
    attributes: Vec<[usize; ATTRIBUTES]>,
    /// What stands for an attribute that is withheld.
    open: [usize; ATTRIBUTES],
}

impl Table {
    fn new(graphs: &[&CallGraph], columns: &Columns, attributes: &Attributes, seed: u64) -> Self {
        let mut rng = random::stream(seed, "tvae/modes", &[]);
        let mut rows = Vec::new();
        for (graph, index) in graphs.iter().zip(0..) {
            let encoded = graph.rows().into_iter().map(|row| columns.encode(&row, &mut rng));
            rows.extend(encoded.map(|row| (row, index)));
        }
        let of = |graph: &&CallGraph| attributes.of(&condition_of(graph));
        Self { rows, attributes: graphs.iter().map(of).collect(), open: attributes.open() }
    }

    fn batch(&self, settings: &TvaeSettings, seed: u64, step: u64) -> Batch {
        let mut rng = random::stream(seed, "tvae/batch", &[step]);
        let withheld = if settings.conditioned { settings.withheld } else { 1.0 };
        let mut batch = Batch::default();
        for _ in 0..settings.batch {
            let (row, graph) = self.rows[rng.random_range(0..self.rows.len())];
            let mut attributes = self.attributes[graph as usize];
            for (attribute, open) in attributes.iter_mut().zip(self.open) {
                if rng.random::<f64>() < withheld {
                    *attribute = open;
                }
            }
            batch.rows.push(row);
            batch.attributes.push(attributes);
        }
        let count = settings.batch * settings.width;
        batch.noise = (0..count).map(|_| StandardNormal.sample(&mut rng)).collect();
        batch
    }
}

/// The condition that a graph is an answer to.
fn condition_of(graph: &CallGraph) -> Condition {
    Condition {
        service: graph.service().clone(),
        num_edges: Some(graph.num_edges()),
        depth: Some(graph.depth()),
        latency: Some(graph.latency()),
        requests: Vec::new(),
    }
}

/// Trains on the calls of `graphs`; also what is worth a note.
pub fn train(
    settings: &TvaeSettings,
    graphs: &[&CallGraph],
    columns: &Columns,
    attributes: &Attributes,
    seed: u64,
    device: &Device,
    progress: Progress,
) -> Result<(Parameters, Vec<(String, String)>)> {
    let table = Table::new(graphs, columns, attributes, seed);
    let shape = TvaeShape::new(settings, columns, attributes);
    let mut learner = Learner::new(Parameters::initial(&shape.layout(), seed), device);
    learner.weight_decay = settings.weight_decay;
    // As in the original.
    learner.clip = f64::INFINITY;
    let steps = if table.rows.is_empty() { 0 } else { settings.steps };
    let warmup = (steps / 20).min(200);
    let schedule = Schedule { highest: settings.learning_rate, warmup, steps };
    let bar = progress.step("training", "steps", steps);
    let mut losses = Vec::new();
    for step in 0..steps {
        let batch = table.batch(settings, seed, step);
        let factor = settings.loss_factor;
        let loss = learner
            .step(schedule.rate(step), |tensors| network::loss(tensors, &shape, &batch, factor))?;
        losses.push(loss);
        if step % 100 == 0 {
            bar.note(&format!("{ID} loss {loss:.2}"));
        }
        bar.inc(1);
    }
    bar.finish();
    let note = |name: &str, value: &dyn Display| (name.to_owned(), value.to_string());
    let last = &losses[losses.len().saturating_sub(LAST)..];
    let loss = last.iter().sum::<f64>() / last.len().max(1) as f64;
    let epochs = steps as f64 * settings.batch as f64 / table.rows.len().max(1) as f64;
    let widths = columns.widths();
    let notes = vec![
        note("steps", &steps),
        note("epochs", &format!("{epochs:.1}")),
        note("final loss (nats)", &format!("{loss:.3}")),
        note(
            "sources, destinations, edge ids",
            &format!("{}, {}, {}", widths[0], widths[1], widths[3]),
        ),
        note("modes of start, response time", &format!("{}, {}", widths[4], widths[5])),
    ];
    Ok((learner.parameters, notes))
}
