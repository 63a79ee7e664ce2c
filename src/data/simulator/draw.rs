//! How a graph is drawn from a service's template.

use rand::{Rng, RngExt};

use super::chance::{self, happens};
use super::template::{Microservice, Slot, Template};
use crate::graph::CallType;

/// A call of a graph that is being drawn. Calls are in depth-first order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DrawnCall {
    /// Index of the parent in the drawn calls.
    pub parent: Option<usize>,
    pub slot: usize,
    /// Last number of the edge id.
    pub number: u32,
    pub destination: usize,
    pub kind: CallType,
    pub start: u32,
    pub finish: u32,
}

/// Draws the calls of one request to the service of `template`.
pub(super) fn draw(
    template: &Template,
    microservices: &[Microservice],
    overlap: f64,
    rng: &mut impl Rng,
) -> Vec<DrawnCall> {
    let variant = template.variants.pick(rng);
    decided_by(Decisions::Variant(variant), template, microservices, overlap, rng)
}

/// Draws the calls of one request as a model does that has learnt the truth and samples at this
/// temperature, above 0: call by call, each time with the true probability given what it has decided so
/// far, tempered. Times are drawn as they are.
pub(super) fn tempered(
    template: &Template,
    temperature: f64,
    microservices: &[Microservice],
    overlap: f64,
    rng: &mut impl Rng,
) -> Vec<DrawnCall> {
    let variants = 0..template.variants.len();
    let posterior = variants.map(|variant| template.variants.probability(variant)).collect();
    let decisions = Decisions::Tempered { temperature, posterior };
    decided_by(decisions, template, microservices, overlap, rng)
}

fn decided_by(
    decisions: Decisions,
    template: &Template,
    microservices: &[Microservice],
    overlap: f64,
    rng: &mut impl Rng,
) -> Vec<DrawnCall> {
    let slow = happens(rng, template.slow_share);
    let delay = if slow { template.slow_time.draw(rng) } else { 0 };
    let mut drawing =
        Drawing { template, microservices, overlap, decisions, delay, rng, calls: Vec::new() };
    drawing.call(0, None, 0, 0);
    // The slow slot was not reached: the root itself takes the time.
    let left = drawing.delay;
    let mut calls = drawing.calls;
    calls[0].finish += left;
    calls
}

/// How it is decided which calls are made.
enum Decisions {
    /// As the truth does: the variant is drawn first, and all else is independent.
    Variant(usize),
    /// As a model does, which does not see the variant: it knows the probability of each, given what was
    /// decided so far.
    Tempered { temperature: f64, posterior: Vec<f64> },
}

impl Decisions {
    fn makes(&mut self, slot: &Slot, rng: &mut impl Rng) -> bool {
        let (temperature, posterior) = match self {
            Self::Variant(variant) => return happens(rng, slot.presence[*variant]),
            Self::Tempered { temperature, posterior } => (*temperature, posterior),
        };
        let total: f64 = posterior.iter().sum();
        let present: f64 = posterior.iter().zip(&slot.presence).map(|(w, p)| w * p).sum();
        let makes = happens(rng, chance::tempered(present / total, temperature));
        for (weight, presence) in posterior.iter_mut().zip(&slot.presence) {
            *weight *= if makes { *presence } else { 1.0 - *presence };
        }
        makes
    }

    fn times(&self, slot: &Slot, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Variant(_) => slot.repeats.draw(rng),
            Self::Tempered { temperature, .. } => slot.repeats.tempered(*temperature).draw(rng),
        }
    }
}

struct Drawing<'a, R> {
    template: &'a Template,
    microservices: &'a [Microservice],
    overlap: f64,
    decisions: Decisions,
    /// Milliseconds that the next call of the slow slot still has to spend.
    delay: u32,
    rng: &'a mut R,
    calls: Vec<DrawnCall>,
}

impl<R: Rng> Drawing<'_, R> {
    /// Draws a call and all below it; returns when it finishes.
    fn call(&mut self, slot: usize, parent: Option<usize>, number: u32, start: u32) -> u32 {
        let template = self.template;
        let drawn = &template.slots[slot];
        let index = self.calls.len();
        let (destination, kind) = (drawn.destination, drawn.kind);
        self.calls.push(DrawnCall {
            parent,
            slot,
            number,
            destination,
            kind,
            start,
            finish: start,
        });
        let delay = if slot == template.slow_slot { std::mem::take(&mut self.delay) } else { 0 };
        let own = self.microservices[destination].own.draw(self.rng);
        let before = (f64::from(own) * self.rng.random::<f64>()) as u32;
        let last = self.children(slot, index, start + before);
        let busy = match last {
            Some(last) => last + (own - before),
            None => start + self.microservices[destination].alone.draw(self.rng),
        };
        self.calls[index].finish = busy + delay;
        busy + delay
    }

    /// Draws the calls that the call at `index` makes from time `from` on; returns when the last
    /// of them has finished, or `None` if there are none.
    fn children(&mut self, slot: usize, index: usize, from: u32) -> Option<u32> {
        let template = self.template;
        let mut number = 0;
        let mut free = from;
        let mut previous: Option<(u32, u32)> = None;
        for &child in &template.slots[slot].children {
            let child_slot = &template.slots[child];
            if !self.decisions.makes(child_slot, self.rng) {
                continue;
            }
            for _ in 0..self.decisions.times(child_slot, self.rng) {
                number += 1;
                let start = match previous {
                    Some((start, finish)) if finish > start && happens(self.rng, self.overlap) => {
                        self.rng.random_range(start..finish)
                    }
                    _ => free,
                };
                let finish = self.call(child, Some(index), number, start);
                previous = Some((start, finish));
                free = free.max(finish);
            }
        }
        (number > 0).then_some(free)
    }
}
