//! How a graph is drawn from a service's template.

use rand::{Rng, RngExt};

use super::chance::happens;
use super::template::{Microservice, Template};
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
    let slow = happens(rng, template.slow_share);
    let delay = if slow { template.slow_time.draw(rng) } else { 0 };
    let mut drawing =
        Drawing { template, microservices, overlap, variant, delay, rng, calls: Vec::new() };
    drawing.call(0, None, 0, 0);
    // The slow slot was not reached: the root itself takes the time.
    let left = drawing.delay;
    let mut calls = drawing.calls;
    calls[0].finish += left;
    calls
}

struct Drawing<'a, R> {
    template: &'a Template,
    microservices: &'a [Microservice],
    overlap: f64,
    variant: usize,
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
            if !happens(self.rng, child_slot.presence[self.variant]) {
                continue;
            }
            for _ in 0..child_slot.repeats.draw(self.rng) {
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
