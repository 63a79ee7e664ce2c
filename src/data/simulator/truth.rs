//! The true distribution of a cloud's graphs. A request's variant is drawn first; given the
//! variant, all choices are independent, so everything here is an exact mixture over variants (up
//! to floating point) of products over the template's tree. Nothing is estimated by sampling.

use std::collections::{BTreeMap, BTreeSet};

use super::Cloud;
use super::template::{Slot, Template};
use crate::graph::{CallType, Name, USER};

/// A (source, type, destination) triple (paper, section 2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Communication {
    pub source: Name,
    pub kind: CallType,
    pub destination: Name,
}

/// How often something happens in one graph of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frequency {
    /// Probability that it happens at least once.
    pub probability: f64,
    /// Mean number of times.
    pub mean: f64,
}

/// A branch: a call that the template of a service may make.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Index of the branch that it hangs on; `None` for the root.
    pub parent: Option<usize>,
    pub communication: Communication,
    pub frequency: Frequency,
}

/// A communication is uncommon for a service if it is in fewer than this share of its graphs.
pub const UNCOMMON: f64 = 0.1;

/// Shapes rarer than this are left out: they are of the size of rounding errors.
const NEGLIGIBLE: f64 = 1e-13;

/// Numbers of services are their places in [`Cloud::services`].
///
/// # Panics
/// All functions that take a service's number panic if the cloud has no such service.
impl Cloud {
    /// Probability that a request goes to this service.
    pub fn service_probability(&self, service: usize) -> f64 {
        self.popularity.probability(service)
    }

    /// All branches of a service's template, the root first and parents before children.
    pub fn branches(&self, service: usize) -> Vec<Branch> {
        let template = &self.templates[service];
        let means = template.means();
        (0..template.slots.len())
            .map(|slot| Branch {
                parent: template.slots[slot].parent,
                communication: self.communication(template, slot),
                frequency: Frequency {
                    probability: 1.0 - template.absence(|other| other == slot),
                    mean: means[slot],
                },
            })
            .collect()
    }

    /// Every communication that a service's graphs can have.
    pub fn communications(&self, service: usize) -> BTreeMap<Communication, Frequency> {
        let template = &self.templates[service];
        let mut slots: BTreeMap<Communication, BTreeSet<usize>> = BTreeMap::new();
        for slot in 0..template.slots.len() {
            slots.entry(self.communication(template, slot)).or_default().insert(slot);
        }
        let means = template.means();
        let frequency = |slots: BTreeSet<usize>| Frequency {
            probability: 1.0 - template.absence(|slot| slots.contains(&slot)),
            mean: slots.iter().map(|&slot| means[slot]).sum(),
        };
        slots.into_iter().map(|(communication, slots)| (communication, frequency(slots))).collect()
    }

    /// Communications that a service has in fewer than 10 % of its graphs, but can have.
    pub fn uncommon(&self, service: usize) -> BTreeSet<Communication> {
        let communications = self.communications(service).into_iter();
        communications
            .filter(|(_, truth)| truth.probability > 0.0 && truth.probability < UNCOMMON)
            .map(|(communication, _)| communication)
            .collect()
    }

    /// Probability of each (num_edges, depth) among a service's graphs. Absolute error below
    /// 1e-12; pairs less probable than 1e-13 are left out.
    pub fn shapes(&self, service: usize) -> BTreeMap<(u32, u32), f64> {
        self.templates[service].shapes()
    }

    /// Probability of each number of calls among a service's graphs.
    pub fn num_edges(&self, service: usize) -> BTreeMap<u32, f64> {
        let mut sizes = BTreeMap::new();
        for ((num_edges, _), probability) in self.shapes(service) {
            *sizes.entry(num_edges).or_default() += probability;
        }
        sizes
    }

    fn communication(&self, template: &Template, slot: usize) -> Communication {
        let Slot { parent, kind, destination, .. } = &template.slots[slot];
        let name = |microservice: usize| self.microservices[microservice].name.clone();
        Communication {
            source: match parent {
                Some(parent) => name(template.slots[*parent].destination),
                None => Name::from(USER),
            },
            kind: *kind,
            destination: name(*destination),
        }
    }
}

impl Template {
    /// Mean number of calls that each slot makes in a graph.
    fn means(&self) -> Vec<f64> {
        let mut total = vec![0.0; self.slots.len()];
        for variant in 0..self.variants.len() {
            let mut means: Vec<f64> = Vec::with_capacity(self.slots.len());
            for slot in &self.slots {
                let calls = slot.presence[variant] * slot.repeats.mean();
                means.push(slot.parent.map_or(1.0, |parent| means[parent] * calls));
            }
            let weight = self.variants.probability(variant);
            total.iter_mut().zip(means).for_each(|(total, mean)| *total += weight * mean);
        }
        total
    }

    /// Probability that a graph has no call of any slot that is `marked`.
    fn absence(&self, marked: impl Fn(usize) -> bool) -> f64 {
        let of_variant = |variant: usize| {
            // Probability that one call of a slot, and all below it, is unmarked.
            let mut none = vec![0.0; self.slots.len()];
            for (index, slot) in self.slots.iter().enumerate().rev() {
                if marked(index) {
                    continue;
                }
                none[index] = slot.children.iter().fold(1.0, |product, &child| {
                    let presence = self.slots[child].presence[variant];
                    let repeated = self.slots[child].repeats.probabilities();
                    // Horner's rule for Σ P(k calls) noneᵏ.
                    let below = repeated.iter().rev().fold(0.0, |sum, p| (sum + p) * none[child]);
                    product * (1.0 - presence + presence * below)
                });
            }
            none[0]
        };
        (0..self.variants.len()).map(|v| self.variants.probability(v) * of_variant(v)).sum()
    }

    fn shapes(&self) -> BTreeMap<(u32, u32), f64> {
        let deepest = self.slots.iter().map(|slot| slot.depth).max().unwrap_or(1);
        let mut shapes = BTreeMap::new();
        for variant in 0..self.variants.len() {
            let weight = self.variants.probability(variant);
            let mut shallower: Vec<f64> = Vec::new();
            for depth in 1..=deepest {
                let sizes = self.sizes(0, variant, depth);
                for (num_edges, &probability) in sizes.iter().enumerate() {
                    let exact = probability - shallower.get(num_edges).copied().unwrap_or(0.0);
                    *shapes.entry((num_edges as u32, depth)).or_default() += weight * exact;
                }
                shallower = sizes;
            }
        }
        shapes.retain(|_, probability| *probability > NEGLIGIBLE);
        shapes
    }

    /// Coefficients of a generating function: at index n the probability that one call of `slot`
    /// and all below it are n calls, none of them more than `levels` deep.
    fn sizes(&self, slot: usize, variant: usize, levels: u32) -> Vec<f64> {
        if levels == 0 {
            return Vec::new();
        }
        let mut sizes = vec![0.0, 1.0];
        for &child in &self.slots[slot].children {
            let child_slot = &self.slots[child];
            let presence = child_slot.presence[variant];
            if presence == 0.0 {
                continue;
            }
            let once = self.sizes(child, variant, levels - 1);
            let repeated = child_slot.repeats.probabilities();
            let mut all = repeated.iter().rev().fold(Vec::new(), |mut sum, p| {
                add(&mut sum, &[*p]);
                product(&sum, &once)
            });
            all.iter_mut().for_each(|probability| *probability *= presence);
            add(&mut all, &[1.0 - presence]);
            sizes = product(&sizes, &all);
        }
        sizes
    }
}

fn add(sum: &mut Vec<f64>, terms: &[f64]) {
    if sum.len() < terms.len() {
        sum.resize(terms.len(), 0.0);
    }
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

fn product(left: &[f64], right: &[f64]) -> Vec<f64> {
    if left.is_empty() || right.is_empty() {
        return Vec::new();
    }
    let mut product = vec![0.0; left.len() + right.len() - 1];
    for (i, a) in left.iter().enumerate().filter(|(_, a)| **a != 0.0) {
        for (j, b) in right.iter().enumerate() {
            product[i + j] += a * b;
        }
    }
    product
}
