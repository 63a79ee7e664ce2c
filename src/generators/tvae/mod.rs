//! The baseline `tvae`: calls as rows of a table, drawn one by one by a variational autoencoder.
//!
//! TVAE is from Xu et al., "Modeling Tabular Data using Conditional GAN" (NeurIPS 2019, arXiv
//! 1907.00503). A row is one call: source, destination, type and edge id are one-hot; start (from the
//! start of the trace) and response time are a mode of a Gaussian [`mixture`] and a place within it.
//! Encoder and decoder have two layers of 128, the latent vector has 128 values; categories and modes
//! are softmax outputs, places are normal around a hyperbolic tangent, with one learnt deviation for
//! each column; the reconstruction counts twice against the divergence from the prior. A row is drawn
//! by decoding a latent vector from the prior.
//!
//! TVAE models rows and nothing that holds between rows, so its rows form no graph. `assemble` says
//! what becomes of them:
//!
//! - `rows` is the comparison that the paper makes (Kim et al., EMNLP 2025: distributions of calls only):
//!   an answer is as many rows as calls were asked for, drawn independently, as drawn. Few of
//!   more than one call are a valid graph, by chance. All calls count in the metrics of `graphs=all`;
//!   metrics of valid graphs see those few and the graphs of one call.
//! - `tree` is an extension of ours: rows are drawn until enough of them form a tree ([`tree`]).
//!   *By construction* there is one root, each call leaves its parent's destination one level below,
//!   times are cut to lie within the parent's, siblings are numbered by their start, and a finished tree
//!   has num_edges calls; only where `draws` rows per call do not suffice it has fewer, or the answer
//!   fails for want of a root. Depth, times and what is called are the rows'.
//!
//! Where it departs from the original:
//!
//! 1. Encoder and decoder are told the condition, one-hot: service, and classes of num_edges, depth and
//!    latency, each withheld in a share of the rows so that it may be left open. The original has no
//!    conditions: `conditioned = false`. It then draws from all services alike.
//! 2. The original takes the most likely category of the decoder's softmax; here it is drawn, with
//!    the experiment's temperature and top-k: `likeliest = true` is the original's way.
//! 3. log(1 + milliseconds) is normalised: `logarithmic = false` normalises milliseconds.
//! 4. AdamW with a warm-up and a cosine, for a number of steps; the original has Adam at a constant rate
//!    for 300 epochs. Learnt deviations are kept within the original's bounds by a sigmoid, not by
//!    cutting them off.
//! 5. Times are cut to the range of training; in a column of very many values the rare ones are
//!    never drawn (`max_values`).

mod columns;
mod mixture;
mod network;
#[cfg(test)]
mod tests;
mod train;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use self::columns::{ATTRIBUTES, Attributes, CATEGORICAL, Columns};
use self::network::{Decoder, TvaeShape};
use self::tree::Assembly;
use super::tables::{self, Frequencies};
use super::{
    Entry, FitContext, FitReport, GenerateOptions, Generator, Recipe, no_checkpoint, settings,
};
use crate::check::within;
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::graph::{CallGraph, CallRow, Condition, Generated, Name, Violation, ViolationCode};
use crate::model;
use crate::model::Sampling;
use crate::model::neural::Parameters;
use crate::version::Version;

const ID: &str = "tvae";
const WEIGHTS: &str = "model.safetensors";

/// What becomes of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Assemble {
    /// They are the answer, as drawn.
    Rows,
    /// They are put together to a tree.
    Tree,
}

/// `[settings]` of a baseline.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TvaeSettings {
    assemble: Assemble,
    /// For `assemble = "tree"`: rows that are drawn at most for each call asked for.
    draws: u32,
    /// No answer has more calls.
    max_calls: u32,
    /// Whether the networks are told the condition.
    conditioned: bool,
    /// Share of training rows in which each attribute of the condition is left open.
    withheld: f64,
    /// Whether the most likely category is taken instead of drawing one.
    likeliest: bool,
    /// Whether log(1 + milliseconds) is normalised instead of milliseconds.
    logarithmic: bool,
    /// Most modes of a column of times.
    modes: usize,
    /// Most values of another column.
    max_values: usize,
    /// Of the latent vector and the hidden layers.
    width: usize,
    /// Weight of the reconstruction in the loss.
    loss_factor: f64,
    steps: u64,
    /// Rows of a step.
    batch: usize,
    learning_rate: f64,
    weight_decay: f64,
}

impl Default for TvaeSettings {
    fn default() -> Self {
        Self {
            assemble: Assemble::Rows,
            draws: 20,
            max_calls: 1_000,
            conditioned: true,
            withheld: 0.2,
            likeliest: false,
            logarithmic: true,
            modes: 10,
            max_values: 10_000,
            width: 128,
            loss_factor: 2.0,
            steps: 6_000,
            batch: 500,
            learning_rate: 1e-3,
            weight_decay: 1e-5,
        }
    }
}

impl TvaeSettings {
    fn check(&self) -> Result<()> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let (ok, what, remedy) = if self.draws == 0 {
            (false, "draws = 0 draws no rows".to_owned(), "use 1 or more")
        } else if self.max_calls == 0 {
            (false, "max_calls = 0 allows no call".to_owned(), "use 1 or more")
        } else if !(0.0..1.0).contains(&self.withheld) {
            let what = format!("withheld = {} is no share of rows", self.withheld);
            (false, what, "use 0 or more and less than 1, or conditioned = false")
        } else if self.modes == 0 || self.modes > 100 {
            (false, format!("modes = {} cannot be fitted", self.modes), "use 1 to 100")
        } else if self.max_values == 0 {
            (false, "max_values = 0 leaves no values".to_owned(), "use 1 or more")
        } else if self.width == 0 || self.width > 4_096 {
            (false, format!("width = {} makes no network", self.width), "use 1 to 4096")
        } else if !positive(self.loss_factor) {
            (false, format!("loss_factor = {} is no weight", self.loss_factor), "use 2")
        } else if self.batch == 0 {
            (false, "batch = 0 has no rows".to_owned(), "use 1 or more")
        } else if !positive(self.learning_rate) {
            (false, format!("learning_rate = {} is no rate", self.learning_rate), "use 1e-3")
        } else if self.weight_decay != 0.0 && !positive(self.weight_decay) {
            (false, format!("weight_decay = {} is no rate", self.weight_decay), "use 0 or 1e-5")
        } else {
            (true, String::new(), "")
        };
        if !ok {
            return Err(UserError::setting(format!("generator `{ID}`: {what}; {remedy}")).into());
        }
        let most = within("draws", self.draws, 1..=1_000_000)
            .and_then(|()| within("max_calls", self.max_calls, 1..=1_000_000))
            .and_then(|()| within("max_values", self.max_values, 1..=10_000_000))
            .and_then(|()| within("steps", self.steps, 0..=1_000_000_000))
            .and_then(|()| within("batch", self.batch, 1..=1 << 20));
        Ok(most.map_err(|message| UserError::setting(format!("generator `{ID}`: {message}")))?)
    }
}

/// What the registry says of it.
pub const ENTRY: Entry = Entry {
    id: ID,
    about: "calls as rows of a table, drawn one by one by a variational autoencoder (Xu et al., 2019)",
    training: Version::new("train/tvae", 1),
    answers: Version::new("answer/tvae", 1),
    constrained: false,
    likelihood: false,
    tiny: Some("width = 16\nbatch = 32\nsteps = 20\nassemble = \"tree\"\n"),
    build,
};

/// The recipe of `tvae`.
///
/// # Errors
/// Unknown settings or values.
fn build(table: &toml::Table) -> Result<Box<dyn Recipe>> {
    let settings: TvaeSettings = settings(ID, table)?;
    settings.check()?;
    Ok(Box::new(Tvae { settings }))
}

struct Tvae {
    settings: TvaeSettings,
}

impl Recipe for Tvae {
    fn fit(&self, context: &FitContext) -> Result<FitReport> {
        let settings = &self.settings;
        let graphs = context.dataset.train();
        let device = model::device(context.device)?.device;
        let TvaeSettings { max_values, modes, logarithmic, .. } = *settings;
        let columns = Columns::learn(&graphs, max_values, modes, logarithmic);
        let attributes = Attributes::learn(&graphs, max_values);
        let FitContext { seed, progress, .. } = *context;
        let (parameters, notes) =
            train::train(settings, &graphs, &columns, &attributes, seed, &device, progress)?;
        let sizes = Sizes::learn(&graphs);
        parameters.save(&context.out.join(WEIGHTS))?;
        let tables = Tables { settings: settings.clone(), columns, attributes, sizes };
        tables::save(&tables, context.out)?;
        Ok(FitReport { parameters: parameters.count(), notes, ..FitReport::default() })
    }

    fn load(
        &self,
        dir: &Path,
        checkpoint: Option<u64>,
        _device: DeviceChoice,
    ) -> Result<Box<dyn Generator>> {
        no_checkpoint(ID, checkpoint)?;
        let tables: Tables = tables::load(dir)?;
        let shape = TvaeShape::new(&tables.settings, &tables.columns, &tables.attributes);
        let parameters = Parameters::load(&dir.join(WEIGHTS), &shape.layout())?;
        Ok(Box::new(TrainedTvae { decoder: Decoder::new(&parameters, &shape), shape, tables }))
    }
}

impl TvaeShape {
    fn new(settings: &TvaeSettings, columns: &Columns, attributes: &Attributes) -> Self {
        Self { width: settings.width, columns: columns.widths(), attributes: attributes.rows() }
    }
}

/// num_edges of training graphs, for conditions that leave it open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sizes {
    of_service: BTreeMap<Name, Frequencies<u32>>,
    overall: Frequencies<u32>,
}

impl Sizes {
    fn learn(graphs: &[&CallGraph]) -> Self {
        let mut sizes = Self::default();
        for graph in graphs {
            let of_service = sizes.of_service.entry(graph.service().clone()).or_default();
            of_service.add(graph.num_edges());
            sizes.overall.add(graph.num_edges());
        }
        sizes
    }

    fn draw(&self, service: &Name, rng: &mut ChaCha8Rng) -> u32 {
        let sizes = self.of_service.get(service).unwrap_or(&self.overall);
        sizes.draw(rng).copied().unwrap_or(0)
    }
}

/// What a trained model has besides its network.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tables {
    settings: TvaeSettings,
    columns: Columns,
    attributes: Attributes,
    sizes: Sizes,
}

struct TrainedTvae {
    tables: Tables,
    shape: TvaeShape,
    decoder: Decoder,
}

impl TrainedTvae {
    /// Independent rows under one condition.
    fn rows(
        &self,
        count: usize,
        attributes: &[usize; ATTRIBUTES],
        sampling: Sampling,
        rng: &mut ChaCha8Rng,
    ) -> Vec<CallRow> {
        let latent: Vec<f32> =
            (0..count * self.shape.width).map(|_| StandardNormal.sample(rng)).collect();
        let output = self.decoder.apply(&latent, attributes);
        let logits: usize = self.shape.columns.iter().sum();
        let widths: &[usize; CATEGORICAL] = &self.shape.columns;
        let deviations = &self.decoder.deviations;
        let rows = output.chunks_exact(output.len() / count.max(1)).map(|row| {
            let (logits, means) = row.split_at(logits);
            let row = columns::draw(widths, logits, means, deviations, sampling, rng);
            self.tables.columns.decode(&row)
        });
        rows.collect()
    }

    fn answer(&self, condition: &Condition, sampling: Sampling, rng: &mut ChaCha8Rng) -> Generated {
        let Tables { settings, attributes, sizes, .. } = &self.tables;
        let calls = condition.num_edges.unwrap_or_else(|| sizes.draw(&condition.service, rng));
        let calls = calls.min(settings.max_calls) as usize;
        if calls == 0 || self.shape.columns.contains(&0) {
            // Nothing was asked for, or there was nothing to learn from.
            return Generated::default();
        }
        let told = if settings.conditioned { attributes.of(condition) } else { attributes.open() };
        let likeliest = Sampling { temperature: 0.0, top_k: None };
        let sampling = if settings.likeliest { likeliest } else { sampling };
        let mut rows = self.rows(calls, &told, sampling, rng);
        if settings.assemble == Assemble::Rows {
            return Generated::complete(rows);
        }
        let mut tree = Assembly::default();
        let most = calls * settings.draws as usize;
        let mut drawn = rows.len();
        loop {
            tree.add(rows, calls, rng);
            let next = (calls - tree.len()).min(most - drawn);
            if next == 0 {
                break;
            }
            rows = self.rows(next, &told, sampling, rng);
            drawn += next;
        }
        match tree.len() {
            0 => {
                let detail = format!("none of {drawn} rows is a root");
                let failure = Some(Violation::new(ViolationCode::NoRoot, detail));
                Generated { failure, ..Generated::default() }
            }
            _ => Generated::complete(tree.rows()),
        }
    }
}

impl Generator for TrainedTvae {
    fn generate(
        &self,
        conditions: &[Condition],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        Ok(options.answer_each(ID, conditions, |condition, mut rng| {
            self.answer(condition, options.sampling, &mut rng)
        }))
    }
}
