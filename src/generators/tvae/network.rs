//! The variational autoencoder: encoder and loss on Burn, decoder on the host.

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};

use super::columns::{ATTRIBUTES, CATEGORICAL, Row, TIMES};
use crate::model::neural::{Begin, Dense, Layout, Parameters, Tensors, cross_entropy};

/// Bounds of the deviation of a normalised time, as in the original.
const SMALLEST_DEVIATION: f64 = 0.01;
const LARGEST_DEVIATION: f64 = 1.0;

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TvaeShape {
    /// Of the latent vector and of both hidden layers of encoder and decoder.
    pub width: usize,
    /// Number of values of each categorical column.
    pub columns: [usize; CATEGORICAL],
    /// Number of values of all attributes of a condition.
    pub attributes: usize,
}

impl TvaeShape {
    /// Rows of the encoder's table: one for each value, one for the rare values of each column.
    fn values(&self) -> usize {
        self.columns.iter().map(|width| width + 1).sum()
    }

    fn outputs(&self) -> usize {
        self.columns.iter().sum::<usize>() + TIMES
    }

    /// All tensors. A linear layer over one-hot columns is a table, of which the rows of the ones are
    /// added up, and begins as a linear layer of all inputs does.
    pub fn layout(&self) -> Layout {
        let Self { width, attributes, .. } = *self;
        let within = |inputs: usize| Begin::Uniform(1.0 / (inputs as f64).sqrt());
        let encoder = within(self.values() + attributes + TIMES);
        let decoder = within(width + attributes);
        Layout::default()
            .tensor("encoder.in.values", &[self.values(), width], encoder)
            .tensor("encoder.in.attributes", &[attributes, width], encoder)
            .tensor("encoder.in.weight", &[TIMES, width], encoder)
            .tensor("encoder.in.bias", &[width], encoder)
            .linear("encoder.hidden", width, width)
            .linear("encoder.mean", width, width)
            .linear("encoder.log-variance", width, width)
            .tensor("decoder.in.attributes", &[attributes, width], decoder)
            .tensor("decoder.in.weight", &[width, width], decoder)
            .tensor("decoder.in.bias", &[width], decoder)
            .linear("decoder.hidden", width, width)
            .linear("decoder.out", width, self.outputs())
            .tensor("deviations", &[TIMES], Begin::Zeros)
    }
}

/// Rows of calls with the conditions that they were seen under.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Row>,
    /// Rows of the tables of attributes.
    pub attributes: Vec<[usize; ATTRIBUTES]>,
    /// Standard normal, `[rows, width]`.
    pub noise: Vec<f32>,
}

/// Negative evidence lower bound, mean over the rows of a batch, in nats; the reconstruction counts
/// `factor` times.
pub fn loss(tensors: &Tensors, shape: &TvaeShape, batch: &Batch, factor: f64) -> Tensor<1> {
    let count = batch.rows.len();
    let hidden = relu(encoder_input(tensors, shape, batch));
    let hidden = relu(tensors.linear("encoder.hidden", hidden));
    let mean = tensors.linear("encoder.mean", hidden.clone());
    let log_variance = tensors.linear("encoder.log-variance", hidden);
    let noise = tensors.constant(batch.noise.clone(), [count, shape.width]);
    let latent = mean.clone() + (log_variance.clone() * 0.5).exp() * noise;
    let divergence = (mean.square() + log_variance.clone().exp() - log_variance - 1.0).sum() * 0.5;
    let output = decode(tensors, latent, &batch.attributes);
    (reconstruction(tensors, shape, output, &batch.rows) * factor + divergence) / count as f64
}

/// Sum over `ids` of the rows of table `name`: `[ids, width]`.
fn sums<const N: usize>(tensors: &Tensors, name: &str, ids: &[[usize; N]]) -> Tensor<2> {
    let rows = tensors.embedding(name, ids.as_flattened());
    let width = rows.dims()[1];
    rows.reshape([ids.len(), N, width]).sum_dim(1).reshape([ids.len(), width])
}

/// First layer of the encoder: `[rows, width]`.
fn encoder_input(tensors: &Tensors, shape: &TvaeShape, batch: &Batch) -> Tensor<2> {
    let ids: Vec<[usize; CATEGORICAL]> = batch
        .rows
        .iter()
        .map(|row| {
            let mut begin = 0;
            let mut ids = row.categories;
            for (id, width) in ids.iter_mut().zip(shape.columns) {
                *id += begin;
                begin += width + 1;
            }
            ids
        })
        .collect();
    let places = batch.rows.iter().flat_map(|row| row.places).collect();
    let places = tensors.constant(places, [batch.rows.len(), TIMES]);
    tensors.linear("encoder.in", places)
        + sums(tensors, "encoder.in.values", &ids)
        + sums(tensors, "encoder.in.attributes", &batch.attributes)
}

/// What the decoder makes of latent vectors: `[rows, outputs]`, the logits of the categorical columns
/// side by side, then the times.
pub fn decode(
    tensors: &Tensors,
    latent: Tensor<2>,
    attributes: &[[usize; ATTRIBUTES]],
) -> Tensor<2> {
    let attributes = sums(tensors, "decoder.in.attributes", attributes);
    let hidden = relu(tensors.linear("decoder.in", latent) + attributes);
    let hidden = relu(tensors.linear("decoder.hidden", hidden));
    tensors.linear("decoder.out", hidden)
}

/// Negative log likelihood of the rows, summed up, in nats without the constant of the normal
/// density. Rare values do not count: they are never drawn.
fn reconstruction(
    tensors: &Tensors,
    shape: &TvaeShape,
    output: Tensor<2>,
    rows: &[Row],
) -> Tensor<1> {
    let count = rows.len();
    let mut begin = 0;
    let mut total = Tensor::zeros([1], &tensors.device);
    for (column, width) in shape.columns.into_iter().enumerate() {
        let logits = output.clone().slice([0..count, begin..begin + width]);
        let known = |row: &Row| row.categories[column] < width;
        let targets: Vec<usize> =
            rows.iter().map(|row| if known(row) { row.categories[column] } else { 0 }).collect();
        let weights: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(known(row)))).collect();
        total = total + cross_entropy(logits, &targets, &weights);
        begin += width;
    }
    let means = output.slice([0..count, begin..begin + TIMES]).tanh();
    let places = rows.iter().flat_map(|row| row.places).collect();
    let distances = tensors.constant(places, [count, TIMES]) - means;
    // Within the bounds whatever the parameter, and in the middle of them, 0.1, for 0.
    let range = (LARGEST_DEVIATION / SMALLEST_DEVIATION).ln();
    let logs = sigmoid(tensors.matrix("deviations")) * range + SMALLEST_DEVIATION.ln();
    let squares = distances.square() / ((logs.clone() * 2.0).exp() * 2.0);
    total + squares.sum() + logs.sum() * count as f64
}

/// The decoder on the host.
#[derive(Debug)]
pub struct Decoder {
    first: Dense,
    hidden: Dense,
    out: Dense,
    /// `[attributes, width]`.
    attributes: Vec<f32>,
    width: usize,
    /// Of the normalised times.
    pub deviations: [f32; TIMES],
}

impl Decoder {
    pub fn new(parameters: &Parameters, shape: &TvaeShape) -> Self {
        let deviation = |value: &f32| {
            let range = (LARGEST_DEVIATION / SMALLEST_DEVIATION).ln();
            let share = 1.0 / (1.0 + (-f64::from(*value)).exp());
            (SMALLEST_DEVIATION.ln() + share * range).exp() as f32
        };
        let mut deviations = [0.0; TIMES];
        for (to, from) in deviations.iter_mut().zip(parameters.get("deviations")) {
            *to = deviation(from);
        }
        Self {
            first: Dense::new(parameters, "decoder.in"),
            hidden: Dense::new(parameters, "decoder.hidden"),
            out: Dense::new(parameters, "decoder.out"),
            attributes: parameters.get("decoder.in.attributes").to_vec(),
            width: shape.width,
            deviations,
        }
    }

    /// [`decode`] of `latent` `[rows, width]` under one condition; a row's result does not depend on
    /// the others.
    pub fn apply(&self, latent: &[f32], attributes: &[usize; ATTRIBUTES]) -> Vec<f32> {
        let mut shift = vec![0.0; self.width];
        for id in attributes {
            let row = &self.attributes[id * self.width..(id + 1) * self.width];
            shift.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let mut hidden = self.first.apply(latent);
        for row in hidden.chunks_exact_mut(self.width) {
            row.iter_mut().zip(&shift).for_each(|(value, shift)| *value += shift);
        }
        rectify(&mut hidden);
        let mut hidden = self.hidden.apply(&hidden);
        rectify(&mut hidden);
        self.out.apply(&hidden)
    }
}

fn rectify(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = value.max(0.0));
}
