//! What goes wrong in real traces, put into others at given rates: calls that fail or are slow, spans that
//! are lost, clocks that are off. Every choice has an address, and what was done is told by attributes, so
//! that a detector can be held to it.

use std::collections::{HashMap, HashSet};

use rand::RngExt;

use crate::data::spans::{Span, SpanId, Status, Value};
use crate::random;

/// Attribute of the spans of a call that was made to fail.
pub const FAILED: &str = "tracegym.fault.error";
/// Attribute of the spans of a call that was made slow.
pub const SLOW: &str = "tracegym.fault.outlier";
/// Attribute of the spans of a service whose clock was put wrong: by how many nanoseconds.
pub const SKEW: &str = "tracegym.fault.skew_ns";

/// Rates of faults; shares are from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Share of the calls that fail. Both sides of a call say so; the calls above it do not.
    pub errors: f64,
    /// Share of the traces in which one call is slow. What comes after it starts later.
    pub outliers: f64,
    /// How many times as long a slow call takes.
    pub outlier_factor: f64,
    /// Share of the spans that are lost, whichever they are.
    pub missing: f64,
    /// Share of the services whose clock is off, each by the same in all traces.
    pub skewed: f64,
    /// By how much at most, nanoseconds.
    pub skew: u64,
}

/// How many faults were put into traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Calls.
    pub errors: u64,
    /// Calls.
    pub outliers: u64,
    /// Spans.
    pub missing: u64,
    /// Spans.
    pub skewed: u64,
}

impl std::ops::AddAssign for Injected {
    fn add_assign(&mut self, other: Self) {
        self.errors += other.errors;
        self.outliers += other.outliers;
        self.missing += other.missing;
        self.skewed += other.skewed;
    }
}

impl Faults {
    /// Makes a call of trace number `index` slow, if that is its lot.
    pub fn slow(&self, spans: &mut [Span], seed: u64, index: u64, injected: &mut Injected) {
        let mut rng = random::stream(seed, "replay: slow call", &[index]);
        if spans.is_empty() || !rng.random_bool(self.outliers) {
            return;
        }
        let calls = calls(spans);
        let call = &calls[rng.random_range(0..calls.len())];
        let (start, end) = call.iter().fold((u64::MAX, 0), |(start, end), index| {
            (start.min(spans[*index].start), end.max(spans[*index].end))
        });
        // What takes no time is taken for a millisecond.
        let duration = end.saturating_sub(start).max(1_000_000);
        let extra = (duration as f64 * (self.outlier_factor - 1.0)) as u64;
        delay(spans, call, end, extra);
        for index in call {
            spans[*index].attributes.push((SLOW.into(), Value::Bool(true)));
        }
        injected.outliers += 1;
    }

    /// Puts all other faults into trace number `index`.
    pub fn spoil(&self, spans: &mut Vec<Span>, seed: u64, index: u64, injected: &mut Injected) {
        let mut rng = random::stream(seed, "replay: errors", &[index]);
        for call in calls(spans) {
            if rng.random_bool(self.errors) {
                for index in call {
                    spans[index].status = Status::Error;
                    spans[index].attributes.push((FAILED.into(), Value::Bool(true)));
                }
                injected.errors += 1;
            }
        }
        for span in spans.iter_mut() {
            let Some(by) = self.skew_of(&span.service, seed) else { continue };
            span.start = span.start.saturating_add_signed(by);
            span.end = span.end.saturating_add_signed(by);
            span.attributes.push((SKEW.into(), Value::Int(by)));
            injected.skewed += 1;
        }
        let mut rng = random::stream(seed, "replay: missing spans", &[index]);
        let before = spans.len();
        spans.retain(|_| !rng.random_bool(self.missing));
        injected.missing += (before - spans.len()) as u64;
    }

    /// By how many nanoseconds the clock of a service is off; `None` if it is right.
    fn skew_of(&self, service: &str, seed: u64) -> Option<i64> {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(service.as_bytes()).as_bytes();
        let service = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let mut rng = random::stream(seed, "replay: clock skew", &[service]);
        let most = i64::try_from(self.skew).unwrap_or(i64::MAX);
        rng.random_bool(self.skewed).then(|| rng.random_range(-most..=most))
    }
}

/// The spans of each call by their places: the caller's side with the called one's, or one side alone.
fn calls(spans: &[Span]) -> Vec<Vec<usize>> {
    let places: HashMap<SpanId, usize> =
        spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
    let caller = |span: &Span| {
        let parent = *places.get(&span.parent?)?;
        (span.kind.is_incoming() && spans[parent].kind.is_outgoing()).then_some(parent)
    };
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut call_of: HashMap<usize, usize> = HashMap::new();
    for (place, span) in spans.iter().enumerate() {
        if caller(span).is_none() {
            call_of.insert(place, calls.len());
            calls.push(vec![place]);
        }
    }
    for (place, span) in spans.iter().enumerate() {
        // A caller's side is no called one, and has its place by now.
        if let Some(call) = caller(span).and_then(|caller| call_of.get(&caller)) {
            calls[*call].push(place);
        }
    }
    calls
}

/// Lets a call end `extra` nanoseconds after `end`, and with it the calls that wait for it. What they begin
/// after its end begins so much later; what runs beside it is left alone.
fn delay(spans: &mut [Span], call: &[usize], end: u64, extra: u64) {
    let places: HashMap<SpanId, usize> =
        spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
    let parents: Vec<Option<usize>> =
        spans.iter().map(|span| places.get(&span.parent?).copied()).collect();
    let mut waiting: HashSet<usize> = HashSet::new();
    for place in call {
        let mut next = Some(*place);
        // Ends also where parents go round in a circle.
        while let Some(place) = next.filter(|place| waiting.insert(*place)) {
            next = parents[place];
        }
    }
    let is_later = |place: usize| {
        // Of the calls above that do not wait, the uppermost.
        let mut top = place;
        for _ in 0..spans.len() {
            match parents[top] {
                Some(parent) if !waiting.contains(&parent) => top = parent,
                Some(_) => return spans[top].start >= end,
                None => return false,
            }
        }
        false
    };
    let later: Vec<bool> =
        (0..spans.len()).map(|place| !waiting.contains(&place) && is_later(place)).collect();
    for (place, span) in spans.iter_mut().enumerate() {
        if waiting.contains(&place) {
            span.end = span.end.saturating_add(extra);
        } else if later[place] {
            span.start = span.start.saturating_add(extra);
            span.end = span.end.saturating_add(extra);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::{TraceAddress, spans};
    use crate::graph::CallGraph;
    use crate::testing::{any_graph, paper_example};

    pub const NONE: Faults = Faults {
        errors: 0.0,
        outliers: 0.0,
        outlier_factor: 10.0,
        missing: 0.0,
        skewed: 0.0,
        skew: 0,
    };

    fn of(graph: &CallGraph) -> Vec<Span> {
        spans(graph, TraceAddress { seed: 0, index: 0, start: 1_000_000_000 })
    }

    #[test]
    fn a_call_has_both_of_its_sides() {
        let spans = of(&paper_example());
        let calls = calls(&spans);
        // Seven calls, three of them to a cache, which records no spans.
        let sides: Vec<usize> = calls.iter().map(Vec::len).collect();
        assert_eq!(sides, [1, 2, 1, 1, 2, 1, 2]);
        assert!(calls[1].iter().all(|place| spans[*place].start == spans[calls[1][0]].start));
    }

    /// The first child of the root, from 0 to 3 ms, ends 10 ms later; its siblings follow.
    #[test]
    fn what_comes_after_a_slow_call_comes_later() {
        let mut spans = of(&paper_example());
        let before = spans.clone();
        let call = calls(&spans)[1].clone();
        let end = before[call[0]].end;
        delay(&mut spans, &call, end, 10_000_000);
        let moved = |place: usize| {
            let by = |now: u64, then: u64| (now - then) / 1_000_000;
            (by(spans[place].start, before[place].start), by(spans[place].end, before[place].end))
        };
        let by_call: Vec<(u64, u64)> = calls(&before).iter().map(|call| moved(call[0])).collect();
        assert_eq!(by_call, [(0, 10), (0, 10), (0, 0), (0, 0), (10, 10), (10, 10), (10, 10)]);
    }

    #[test]
    fn faults_come_at_their_rates_and_at_their_addresses() {
        let faults =
            Faults { errors: 0.1, outliers: 0.2, missing: 0.05, skewed: 0.5, skew: 1_000, ..NONE };
        let whole = of(&paper_example());
        let spoilt = |faults: Faults| {
            let mut injected = Injected::default();
            let mut all = Vec::new();
            for index in 0..2_000 {
                let mut spans = whole.clone();
                faults.slow(&mut spans, 7, index, &mut injected);
                faults.spoil(&mut spans, 7, index, &mut injected);
                all.push(spans);
            }
            (all, injected)
        };
        let (all, injected) = spoilt(faults);
        // Of 14,000 calls, 2,000 traces and 20,000 spans.
        assert!((1_250..1_550).contains(&injected.errors), "{injected:?}");
        assert!((330..470).contains(&injected.outliers), "{injected:?}");
        assert!((880..1_120).contains(&injected.missing), "{injected:?}");
        assert_eq!(spoilt(faults), (all.clone(), injected));
        let missing = all.iter().map(|spans| whole.len() - spans.len()).sum::<usize>();
        assert_eq!(missing as u64, injected.missing);
        let failed = all.iter().flatten().filter(|span| span.status == Status::Error);
        let told = |span: &&Span| span.attributes.iter().any(|(key, _)| **key == *FAILED);
        assert!(failed.clone().count() > 0 && failed.clone().all(|span| told(&span)));
        // One rate changes nothing of the others.
        let (_, fewer) = spoilt(Faults { errors: 0.0, ..faults });
        assert_eq!(fewer, Injected { errors: 0, ..injected });
        // A clock is off by the same in all traces.
        let mut skews: HashMap<&str, HashSet<u64>> = HashMap::new();
        let (skewed, _) = spoilt(Faults { skewed: 1.0, skew: 1_000, ..NONE });
        for spans in &skewed {
            for (span, original) in spans.iter().zip(&whole) {
                let by = span.start.wrapping_sub(original.start);
                skews.entry(&original.service).or_default().insert(by);
            }
        }
        assert!(skews.len() > 2 && skews.values().all(|by| by.len() == 1), "{skews:?}");
        assert_eq!(spoilt(NONE).1, Injected::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A slow call breaks no constraint: calls still lie within those that make them.
        #[test]
        fn slow_calls_stay_within_their_callers(graph in any_graph(15), seed in any::<u64>()) {
            let faults = Faults { outliers: 1.0, ..NONE };
            let mut spans = of(&graph);
            let before = spans.clone();
            let mut injected = Injected::default();
            faults.slow(&mut spans, seed, 0, &mut injected);
            prop_assert_eq!(injected.outliers, 1);
            prop_assert!(spans.iter().zip(&before).any(|(now, then)| now.end > then.end));
            let places: HashMap<SpanId, usize> =
                spans.iter().enumerate().map(|(place, span)| (span.id, place)).collect();
            for span in &spans {
                prop_assert!(span.start <= span.end);
                if let Some(parent) = span.parent {
                    let parent = &spans[places[&parent]];
                    prop_assert!(parent.start <= span.start && span.end <= parent.end);
                }
            }
        }
    }
}
