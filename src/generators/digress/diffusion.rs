//! A call graph as diffusion sees it, node types and a type for each ordered pair of nodes, and noise
//! on it towards marginals in closed form: a type is kept with some probability, and else drawn anew
//! from the marginal. No matrix of transitions is ever written down.

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::graph::{CallGraph, CallType};

/// The node that the root call comes from. It is always there, and never changes.
pub const USER_NODE: usize = 0;
/// The type of a pair without a call. A call of type k of [`CallType::ALL`] has type k + 1.
pub const NO_CALL: usize = 0;
/// Types of a pair.
pub const EDGE_TYPES: usize = CallType::ALL.len() + 1;

/// A clean or noisy graph with one node per call, besides the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Type of each call's node: what it goes to. Node i + 1 has `types[i]`.
    pub types: Vec<usize>,
    /// Type of the pair from a parent to a child: `[nodes, nodes]`, row-major.
    edges: Vec<u8>,
}

impl State {
    /// Calls of these destinations, and no edges.
    pub fn empty(types: Vec<usize>) -> Self {
        let nodes = types.len() + 1;
        Self { types, edges: vec![NO_CALL as u8; nodes * nodes] }
    }

    /// The graph with nodes in depth-first order; `type_of` numbers destinations.
    pub fn of(graph: &CallGraph, type_of: impl Fn(&str) -> usize) -> Self {
        let calls = graph.calls();
        let mut state = Self::empty(calls.iter().map(|call| type_of(&call.destination)).collect());
        for (index, call) in calls.iter().enumerate() {
            let parent = call.parent.map_or(USER_NODE, |parent| parent as usize + 1);
            state.set(parent, index + 1, call.kind as usize + 1);
        }
        state
    }

    /// Nodes, the user's included.
    pub fn nodes(&self) -> usize {
        self.types.len() + 1
    }

    pub fn edge(&self, parent: usize, child: usize) -> usize {
        usize::from(self.edges[parent * self.nodes() + child])
    }

    pub fn set(&mut self, parent: usize, child: usize, kind: usize) {
        let place = parent * self.nodes() + child;
        self.edges[place] = kind as u8;
    }

    /// Parents of `child`, ascending.
    pub fn parents(&self, child: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes()).filter(move |parent| self.edge(*parent, child) != NO_CALL)
    }

    /// Nodes that calls lead to from the user, breadth first, each with the parent that it was
    /// reached from and its distance from the user; the user itself is left out.
    pub fn reached(&self) -> Vec<(usize, usize, usize)> {
        let mut seen = vec![false; self.nodes()];
        seen[USER_NODE] = true;
        let mut queue = VecDeque::from([(USER_NODE, 0)]);
        let mut found = Vec::new();
        while let Some((parent, distance)) = queue.pop_front() {
            for (child, seen) in seen.iter_mut().enumerate() {
                if !*seen && self.edge(parent, child) != NO_CALL {
                    *seen = true;
                    found.push((child, parent, distance + 1));
                    queue.push_back((child, distance + 1));
                }
            }
        }
        found
    }
}

/// Which pairs may have a call: none leads to the user or from a node to itself, and with `ordered`
/// nodes none leads to an earlier node.
pub fn possible(parent: usize, child: usize, ordered: bool) -> bool {
    child != USER_NODE && parent != child && (!ordered || parent < child)
}

/// Number of possible pairs in a graph of `calls` calls.
pub fn possible_pairs(calls: usize, ordered: bool) -> usize {
    if ordered { calls * (calls + 1) / 2 } else { calls * calls }
}

/// How much of a graph is left after each step of noise: the cosine schedule (Nichol and Dhariwal,
/// 2021) that DiGress uses.
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    /// ᾱ by step; 1 at step 0, about 0 at the last.
    kept: Vec<f64>,
}

/// Keeps the first steps from doing nothing.
const OFFSET: f64 = 0.008;

impl NoiseSchedule {
    pub fn new(steps: usize) -> Self {
        let cosine = |step: usize| {
            let share = (step as f64 / steps as f64 + OFFSET) / (1.0 + OFFSET);
            (share * std::f64::consts::FRAC_PI_2).cos().powi(2)
        };
        Self { kept: (0..=steps).map(|step| cosine(step) / cosine(0)).collect() }
    }

    pub fn steps(&self) -> usize {
        self.kept.len() - 1
    }

    /// Probability ᾱ that a type is still the clean one, not drawn anew, after `step` steps.
    pub fn kept(&self, step: usize) -> f64 {
        self.kept[step]
    }

    /// The same for the single step `step`, which counts from 1.
    pub fn kept_in(&self, step: usize) -> f64 {
        self.kept[step] / self.kept[step - 1]
    }
}

/// What noise draws from: a probability for each type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marginal(pub Vec<f64>);

impl Marginal {
    /// Shares of `counts`, which are not all zero.
    pub fn of(counts: &[f64]) -> Self {
        let total: f64 = counts.iter().sum();
        Self(counts.iter().map(|count| count / total).collect())
    }

    pub fn draw(&self, rng: &mut ChaCha8Rng) -> usize {
        draw_weighted(&self.0, rng)
    }

    /// `clean` after noise: kept with probability `kept`.
    pub fn noise(&self, clean: usize, kept: f64, rng: &mut ChaCha8Rng) -> usize {
        if rng.random::<f64>() < kept { clean } else { self.draw(rng) }
    }
}

/// What noise needs to know.
pub struct Noise<'a> {
    pub schedule: &'a NoiseSchedule,
    pub destinations: &'a Marginal,
    pub kinds: &'a Marginal,
    /// Whether calls lead to later nodes only.
    pub ordered: bool,
}

impl Noise<'_> {
    /// The marginal of pairs in a graph of `calls` calls: as many of the possible pairs have a call
    /// as in any tree of that size. One more pair without a call keeps every share above 0.
    pub fn pairs(&self, calls: usize) -> Marginal {
        let pairs = possible_pairs(calls, self.ordered) + 1;
        let share = calls as f64 / pairs as f64;
        let kinds = self.kinds.0.iter().map(|kind| kind * share);
        Marginal(std::iter::once(1.0 - share).chain(kinds).collect())
    }

    /// `clean` after `step` steps of noise.
    pub fn apply(&self, clean: &State, step: usize, rng: &mut ChaCha8Rng) -> State {
        let kept = self.schedule.kept(step);
        let types = clean.types.iter().map(|kind| self.destinations.noise(*kind, kept, rng));
        let mut noisy = State::empty(types.collect());
        let marginal = self.pairs(clean.types.len());
        for parent in 0..clean.nodes() {
            for child in 0..clean.nodes() {
                if possible(parent, child, self.ordered) {
                    let kind = marginal.noise(clean.edge(parent, child), kept, rng);
                    noisy.set(parent, child, kind);
                }
            }
        }
        noisy
    }
}

/// Smallest probability that is divided by.
const TINY: f64 = 1e-12;

/// Weights, not normalised, of the types before step `step`, given the noisy type `noisy` after it
/// and probabilities `clean` of the clean type; they replace `clean`:
/// Σ over x of q(z before | noisy, x) · clean(x).
///
/// q(noisy | z) is α·\[z = noisy\] + (1 − α)·m(noisy) and q(z | x) is ᾱ·\[z = x\] + (1 − ᾱ)·m(z), with α
/// of this step and ᾱ before it. Divided by q(noisy | x) and summed over x, only the sum of all
/// `clean(x) / q(noisy | x)` is common to every z, so that the whole costs one pass.
pub fn posterior(
    schedule: &NoiseSchedule,
    step: usize,
    marginal: &Marginal,
    noisy: usize,
    clean: &mut [f64],
) {
    let (of_step, before) = (schedule.kept_in(step), schedule.kept(step - 1));
    let anew = marginal.0[noisy];
    let (with, without) = {
        let kept = schedule.kept(step);
        (kept + (1.0 - kept) * anew, ((1.0 - kept) * anew).max(TINY))
    };
    for (value, weight) in clean.iter_mut().enumerate() {
        *weight /= if value == noisy { with } else { without };
    }
    let all: f64 = clean.iter().sum();
    for (value, (weight, share)) in clean.iter_mut().zip(&marginal.0).enumerate() {
        let forward = (1.0 - of_step) * anew + if value == noisy { of_step } else { 0.0 };
        *weight = forward * (before * *weight + (1.0 - before) * share * all);
    }
}

/// An index with the probability of its weight; the last with any weight if rounding leaves none.
pub fn draw_weighted(weights: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let total: f64 = weights.iter().sum();
    let mut ticket = rng.random::<f64>() * total;
    let mut last = 0;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = index;
        ticket -= weight;
        if ticket < 0.0 {
            break;
        }
    }
    last
}
