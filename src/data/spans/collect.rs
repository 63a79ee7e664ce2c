//! From the spans of all files to graphs.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use super::reading::Counts;
use super::span::Span;
use super::tree::{self, Changes, Policy};
use crate::data::Funnel;
use crate::data::finish::{self, Losses, Reason};
use crate::data::source::{Change, SourceOutput};
use crate::graph::Interner;

/// Spans by trace. `K` tells traces apart, and is the order in which their graphs stand.
pub struct Traces<K> {
    spans: HashMap<K, Vec<Span>>,
    /// Traces that are not all there.
    incomplete: HashSet<K>,
    pub counts: Counts,
}

impl<K> Default for Traces<K> {
    fn default() -> Self {
        let counts = Counts::default();
        Self { spans: HashMap::new(), incomplete: HashSet::new(), counts }
    }
}

/// How traces become graphs.
pub struct Assembly<'a> {
    pub policy: &'a Policy,
    /// Whether a start of 0 is a time.
    pub zero_is_a_time: bool,
    /// What a row of the files is, as the funnel's first step.
    pub row: &'static str,
    /// Whether spans that cannot be read were left out.
    pub skip_bad: bool,
    /// Tells traces that met an injected fault.
    pub is_faulty: &'a dyn Fn(&[Span]) -> bool,
}

impl<K: Ord + Hash + Display> Traces<K> {
    pub fn add(&mut self, trace: K, span: Span) {
        self.spans.entry(trace).or_default().push(span);
    }

    /// The spans of a trace, in the order in which they were added.
    pub fn spans_mut(&mut self, trace: &K) -> &mut [Span] {
        self.spans.get_mut(trace).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Counts a trace as lost.
    pub fn lose(&mut self, trace: K) {
        self.incomplete.insert(trace);
    }

    /// The graphs, in the order of their traces' keys: neither they nor the split, which goes by number,
    /// depend on the order of spans and files.
    pub fn into_output(
        self,
        assembly: &Assembly<'_>,
        names: &mut Interner,
    ) -> (SourceOutput, Changes) {
        let Self { spans, incomplete, counts } = self;
        let mut funnel = Funnel::default();
        let traces = spans.len() as u64;
        let mut rows = counts.spans;
        funnel.push(assembly.row, rows, None);
        if assembly.skip_bad {
            rows -= counts.bad;
            funnel.push("can be read", rows, Some(traces));
        }
        if counts.without_ids > 0 {
            rows -= counts.without_ids;
            funnel.push("has an id and that of its trace", rows, Some(traces));
        }
        let mut losses = Losses::default();
        let mut changes = Changes::default();
        let mut read = SourceOutput::default();
        let mut lost: BTreeMap<Reason, String> = BTreeMap::new();
        let mut changed: [String; 11] = Default::default();
        let mut sorted: Vec<(K, Vec<Span>)> = spans.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (trace, spans) in sorted {
            let count = spans.len() as u64;
            if incomplete.contains(&trace) {
                losses.add(Reason::BadRow, count);
                lost.entry(Reason::BadRow).or_insert_with(|| trace.to_string());
                continue;
            }
            let before = changes.counts();
            let is_faulty = (assembly.is_faulty)(&spans);
            let Assembly { policy, zero_is_a_time, .. } = assembly;
            match tree::graph(spans, policy, *zero_is_a_time, names, &mut changes) {
                Ok(graph) if is_faulty => read.faulty.push(graph),
                Ok(graph) => read.graphs.push(graph),
                Err(reason) => {
                    losses.add(reason, count);
                    lost.entry(reason).or_insert_with(|| trace.to_string());
                }
            }
            for (kind, (before, now)) in before.into_iter().zip(changes.counts()).enumerate() {
                if before == 0 && now > 0 {
                    changed[kind] = trace.to_string();
                }
            }
        }
        read.complete = Some((traces - losses.gaps(), traces));
        read.examples = lost.into_iter().map(|(reason, trace)| (reason.step(), trace)).collect();
        let kinds = changes.kinds().into_iter().zip(changed);
        for ((words, count), trace) in kinds.filter(|((_, count), _)| *count > 0) {
            read.changes.push(Change { words, count, trace });
        }
        let all = read.graphs.iter().chain(&read.faulty);
        let calls = all.map(|graph| u64::from(graph.num_edges())).sum();
        read.graphs = finish::distinct(read.graphs, &mut losses);
        read.faulty = finish::distinct(read.faulty, &mut losses);
        losses.push_with_calls(&mut funnel, rows, traces, Some(calls));
        read.funnel = funnel;
        if counts.several_parents > 0 {
            let words = "spans name several parents, of which one was taken".to_owned();
            let (count, trace) = (counts.several_parents, String::new());
            read.changes.push(Change { words, count, trace });
        }
        (read, changes)
    }
}
