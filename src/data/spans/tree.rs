//! What the spans of a trace become: one policy for all formats (docs/spans.md).
//!
//! Spans are put into a tree, the two sides of a call become one call, spans inside of a service none,
//! and times are made to fit. Whatever is not as it should be has a name, under which it is counted.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::from_graph::{CALL_ID, CALL_TYPE, ENTRY};
use super::jaeger::{FOLLOWS, REFERENCE};
use super::span::{Span, SpanKind, Value, attribute};
use crate::data::finish::{self, MAX_DEPTH, Reason};
use crate::graph::{CallGraph, CallRow, CallType, EdgeId, Interner, Name, USER, ViolationCode};

/// `[source.policy]`: what becomes of spans, where more than one answer is right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub names: Names,
    pub entry: Entry,
    pub fragments: Fragments,
    pub conflicts: Conflicts,
    pub backwards: Backwards,
    pub outside: Outside,
    /// The type of calls of which nothing tells it.
    pub default_type: DefaultType,
}

/// What a microservice is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// A service. Spans inside of one are no calls.
    #[default]
    Service,
    /// An operation of a service, `service/operation`: every span is a call.
    Operation,
}

/// What a graph is named by, the paper's service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The root span's service and operation.
    #[default]
    Root,
    /// The first operation that the trace reaches outside of the root's service: where all requests enter
    /// by one gateway.
    BehindRoot,
}

/// A trace that is not one tree below one root: several roots, parents that are missing, circles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fragments {
    /// The trace is lost.
    #[default]
    Reject,
    /// The largest of its trees is the trace, whether its first span is a root or lacks its parent.
    Largest,
}

/// Different spans with one id that are not the two sides of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflicts {
    /// The trace is lost.
    #[default]
    Reject,
    /// The one that starts first is kept.
    First,
}

/// Spans that end before they start, or of which no end is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backwards {
    /// They last no time.
    #[default]
    Keep,
    /// The trace is lost.
    Reject,
}

/// Calls that lie partly or wholly outside of the call that made them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// They are cut to it.
    #[default]
    Clip,
    /// Where the spans were recorded on different hosts and the caller waited, the callee's clock is taken
    /// to be off: its spans are moved, to the middle of the caller's span. What is outside after that is
    /// cut.
    Shift,
    /// The trace is lost.
    Reject,
}

/// A call type as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DefaultType(pub CallType);

impl Default for DefaultType {
    fn default() -> Self {
        Self(CallType::Rpc)
    }
}

/// What was changed in spans so that they fit into graphs, and what became of those that are no calls of
/// their own: how many of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Twice the same span, of which one was kept.
    pub repeated: u64,
    /// Left out because another span has their id.
    pub conflicting: u64,
    /// Left out because they are not in the largest tree.
    pub apart: u64,
    /// Ended before they started, or had no end.
    pub backwards: u64,
    /// Had been recorded by a clock that was off, and were moved.
    pub shifted: u64,
    /// Calls that were cut to the calls that made them.
    pub clipped: u64,
    /// How long these were before, in nanoseconds.
    pub before: u128,
    /// How long these were after that.
    pub after: u128,
    /// Among them, calls of messages, and others that nobody waited for, that began after their caller's
    /// end.
    pub late: u64,
    /// Callee's sides that are one call with the caller's.
    pub merged: u64,
    /// Spans inside of a service, which are no calls.
    pub inner: u64,
    /// Calls that no span is the callee's side of, since only spans inside of the callee are there.
    pub implied: u64,
    /// Calls to somebody without a name, who is named by the operation.
    pub unnamed: u64,
}

impl Changes {
    /// Each kind, in words that follow a number of spans, with its number.
    pub fn kinds(&self) -> [(String, u64); 11] {
        let milliseconds = |nanoseconds: u128| nanoseconds as f64 / 1e6;
        let clipped = format!(
            "calls outside of their callers were cut to them, from {:.3} ms in all to {:.3} ms",
            milliseconds(self.before),
            milliseconds(self.after)
        );
        let words = [
            "repetitions of a span were left out",
            "spans with the id of another span were left out",
            "spans outside of the largest tree were left out",
            "spans ended before they started, or had no end, and last no time",
            "spans were moved, as their clock was off",
            &clipped,
            "of these, calls that nobody waited for began after their callers' end",
            "callees' spans are one call with their callers'",
            "spans inside of a service are no calls",
            "calls have spans inside of the callee alone",
            "calls reach somebody without a name, and are named by their operation",
        ];
        let counts = self.counts();
        std::array::from_fn(|kind| (words[kind].to_owned(), counts[kind]))
    }

    /// The numbers of [`Self::kinds`].
    pub fn counts(&self) -> [u64; 11] {
        [
            self.repeated,
            self.conflicting,
            self.apart,
            self.backwards,
            self.shifted,
            self.clipped,
            self.late,
            self.merged,
            self.inner,
            self.implied,
            self.unnamed,
        ]
    }
}

/// The graph of one trace's spans, in any order; `changes` counts what was done to them.
///
/// `zero_is_a_time` says that a start of 0 is one, as in tables of times that do not count from 1970.
///
/// # Errors
/// Why the trace is lost.
pub fn graph(
    mut spans: Vec<Span>,
    policy: &Policy,
    zero_is_a_time: bool,
    names: &mut Interner,
    changes: &mut Changes,
) -> Result<CallGraph, Reason> {
    // Content decides, never the place in a file.
    spans.sort_by(|a, b| place(a).cmp(&place(b)));
    let before = spans.len();
    spans.dedup_by(|a, b| place(a) == place(b));
    changes.repeated += (before - spans.len()) as u64;
    let tree = Tree::of(&spans, policy, changes)?;
    let times = tree.times(policy, zero_is_a_time, changes)?;
    let mut calls = tree.calls(&times, policy, names, changes)?;
    fit(&mut calls, policy, changes)?;
    assemble(&calls, policy)
}

/// All that tells spans apart, by time first.
fn place(span: &Span) -> impl Ord {
    (span.start, span.end, span.id, &span.service, &span.operation, span.kind, span.parent)
}

/// Spans that are below one of them, each but once.
struct Tree<'a> {
    spans: &'a [Span],
    root: usize,
    /// Parents, by span; that of the root, and of what is not below it, is nobody.
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// Parents before their children; the first is the root.
    order: Vec<usize>,
}

impl<'a> Tree<'a> {
    fn of(spans: &'a [Span], policy: &Policy, found: &mut Changes) -> Result<Self, Reason> {
        let (owners, dropped) = owners(spans, policy)?;
        found.conflicting += dropped.len() as u64;
        let mut parents = vec![None; spans.len()];
        let mut tops = Vec::new();
        let mut roots = 0;
        for (index, span) in spans.iter().enumerate() {
            if dropped.contains(&index) {
                continue;
            }
            let own = &owners[&span.id.0];
            // The callee's side of a call whose sides share an id is below the caller's.
            if own.callee == Some(index) {
                parents[index] = Some(own.first);
                continue;
            }
            let Some(parent) = span.parent else {
                roots += 1;
                tops.push(index);
                continue;
            };
            let Some(above) = owners.get(&parent.0) else {
                tops.push(index);
                continue;
            };
            parents[index] = Some(match above.callee {
                Some(callee) if !above.is_callers(spans, span) => callee,
                _ => above.first,
            });
        }
        let mut children = vec![Vec::new(); spans.len()];
        for (index, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(index);
            }
        }
        let below = |top: usize| {
            let mut order = vec![top];
            let mut next = 0;
            while next < order.len() {
                order.extend(&children[order[next]]);
                next += 1;
            }
            order
        };
        let all = spans.len() - dropped.len();
        let invalid = |code| Err(Reason::Invalid(code));
        let order = match policy.fragments {
            Fragments::Reject => {
                match (roots, tops.len()) {
                    (0, 0) => return Err(Reason::Circle),
                    (0, _) => return invalid(ViolationCode::NoRoot),
                    (1, 1) => {}
                    (1, _) => return invalid(ViolationCode::MissingParent),
                    _ => return invalid(ViolationCode::SecondRoot),
                }
                below(tops[0])
            }
            Fragments::Largest => {
                // Of trees of one size, that of a root, then the first.
                let trees = tops.iter().map(|top| below(*top)).rev();
                let rank = |order: &Vec<usize>| (order.len(), spans[order[0]].parent.is_none());
                trees.max_by_key(rank).ok_or(Reason::Circle)?
            }
        };
        if order.len() < all && policy.fragments == Fragments::Reject {
            return Err(Reason::Circle);
        }
        found.apart += (all - order.len()) as u64;
        Ok(Self { spans, root: order[0], parents, children, order })
    }

    /// Start and end of each span in nanoseconds, none before its start, by the clock of the caller. Of a
    /// callee's side without a start they are those of the caller's.
    fn times(
        &self,
        policy: &Policy,
        zero_is_a_time: bool,
        found: &mut Changes,
    ) -> Result<Vec<(i128, i128)>, Reason> {
        let times = self.spans.iter();
        let mut times: Vec<(i128, i128)> = times
            .map(|span| (i128::from(span.start), i128::from(span.end.max(span.start))))
            .collect();
        for index in &self.order {
            let span = &self.spans[*index];
            if span.start > 0 || zero_is_a_time {
                continue;
            }
            let caller = self.parents[*index]
                .filter(|parent| span.kind.is_incoming() && self.spans[*parent].kind.is_outgoing());
            times[*index] = times[caller.ok_or(Reason::NoStart)?];
        }
        let backwards = self.order.iter().filter(|index| {
            let span = &self.spans[**index];
            span.end < span.start
        });
        let backwards = backwards.count() as u64;
        found.backwards += backwards;
        if backwards > 0 && policy.backwards == Backwards::Reject {
            return Err(Reason::Backwards);
        }
        if policy.outside != Outside::Shift {
            return Ok(times);
        }
        let mut skews = vec![0i128; self.spans.len()];
        for index in &self.order[1..] {
            let (index, span) = (*index, &self.spans[*index]);
            let parent = self.parents[index].expect("below the root");
            let (from, to) = times[parent];
            let (start, end) = times[index];
            // What runs on the parent's host goes by the parent's clock.
            skews[index] = if is_same_host(span, &self.spans[parent]) {
                skews[parent]
            } else if is_asynchronous(span) || (from <= start && end <= to) {
                0
            } else if end - start > to - from {
                // It may have gone on without its caller; it did not begin before it.
                (from - start).max(0)
            } else {
                from - start + ((to - from) - (end - start)) / 2
            };
            found.shifted += u64::from(skews[index] != 0);
            times[index] = (start + skews[index], end + skews[index]);
        }
        Ok(times)
    }

    /// The calls that the spans are, the root's first, parents before their children.
    fn calls(
        &self,
        times: &[(i128, i128)],
        policy: &Policy,
        names: &mut Interner,
        found: &mut Changes,
    ) -> Result<Vec<Made>, Reason> {
        let sorted = self.sorted_children(times);
        let reach = self.reach(&sorted);
        let mut making = Making { tree: self, times, policy, names, calls: Vec::new() };
        // Callees' sides that are one call with their callers', and callers inside of callees of which
        // there is nothing else.
        let mut merged = vec![false; self.spans.len()];
        let mut inside_of: Vec<Option<usize>> = vec![None; self.spans.len()];
        let mut waiting = vec![(self.root, None)];
        while let Some((index, caller)) = waiting.pop() {
            if merged[index] {
                continue;
            }
            let caller = inside_of[index].or(caller);
            let span = &self.spans[index];
            let outgoing = span.kind.is_outgoing();
            let mut inside = caller;
            let enters = match caller {
                Some(caller) => is_entry(span, &making.calls[caller].service),
                None => true,
            };
            if enters {
                found.implied += u64::from(outgoing);
                inside = Some(making.call_into_service(caller, index)?);
            }
            // Where what is below the span is called from.
            let mut below = inside;
            match reach[index] {
                Reach::Entry(callee) if outgoing => {
                    let call = making.call_to_callee(inside, index, callee)?;
                    if self.spans[callee].kind.is_outgoing() {
                        found.implied += 1;
                        inside_of[callee] = Some(call);
                    } else {
                        found.merged += 1;
                        merged[callee] = true;
                        waiting.extend(sorted[callee].iter().map(|child| (*child, Some(call))));
                    }
                }
                Reach::Nothing if outgoing => {
                    let (call, is_named) = making.call_to_peer(inside, index)?;
                    found.unnamed += u64::from(!is_named);
                    if policy.names == Names::Operation {
                        below = Some(call);
                    }
                }
                _ if enters => {}
                _ if policy.names == Names::Operation => {
                    below = Some(making.call_into_service(inside, index)?);
                }
                _ => found.inner += 1,
            }
            waiting.extend(sorted[index].iter().map(|child| (*child, below)));
        }
        Ok(making.calls)
    }

    /// Children in the order of their starts.
    fn sorted_children(&self, times: &[(i128, i128)]) -> Vec<Vec<usize>> {
        let mut sorted = self.children.clone();
        for children in &mut sorted {
            children.sort_by_key(|child| (times[*child].0, *child));
        }
        sorted
    }

    /// What is next below each span of those that matter to calls, through spans inside of its service.
    fn reach(&self, sorted: &[Vec<usize>]) -> Vec<Reach> {
        let mut reach = vec![Reach::Nothing; self.spans.len()];
        for index in self.order.iter().rev() {
            let service = &self.spans[*index].service;
            let next = sorted[*index].iter().map(|child| {
                let span = &self.spans[*child];
                if is_entry(span, service) {
                    Reach::Entry(*child)
                } else if span.kind.is_outgoing() {
                    Reach::Outgoing
                } else {
                    reach[*child]
                }
            });
            // The first entry, or else anything.
            reach[*index] = next.fold(Reach::Nothing, |best, next| match (best, next) {
                (Reach::Entry(_), _) | (_, Reach::Nothing) => best,
                (Reach::Outgoing, Reach::Outgoing) => best,
                _ => next,
            });
        }
        reach
    }
}

/// What a span has below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nothing,
    /// The callee's side of a call, or a span of another service.
    Entry(usize),
    /// The caller's side of a call, in the same service.
    Outgoing,
}

/// Whether a span below one of `service` is reached by a call.
fn is_entry(span: &Span, service: &Name) -> bool {
    span.kind.is_incoming() || (span.service != *service && !span.service.is_empty())
}

/// Spans of one id: one, or the two sides of a call, the caller's first.
struct Owner {
    first: usize,
    callee: Option<usize>,
}

impl Owner {
    /// Whether a child of this id is one of the caller's side.
    fn is_callers(&self, spans: &[Span], child: &Span) -> bool {
        let caller = &spans[self.first].service;
        let callee = self.callee.map(|callee| &spans[callee].service);
        child.service == *caller && callee != Some(caller)
    }
}

/// Who has each id, and the spans that are left out since another has theirs.
fn owners(
    spans: &[Span],
    policy: &Policy,
) -> Result<(HashMap<u64, Owner>, HashSet<usize>), Reason> {
    let mut owners: HashMap<u64, Owner> = HashMap::with_capacity(spans.len());
    let mut dropped = HashSet::new();
    for (index, span) in spans.iter().enumerate() {
        let Some(owner) = owners.get_mut(&span.id.0) else {
            owners.insert(span.id.0, Owner { first: index, callee: None });
            continue;
        };
        let other = &spans[owner.first];
        match (owner.callee, policy.conflicts) {
            (None, _) if other.kind.is_outgoing() && span.kind.is_incoming() => {
                owner.callee = Some(index);
            }
            (None, _) if other.kind.is_incoming() && span.kind.is_outgoing() => {
                *owner = Owner { first: index, callee: Some(owner.first) };
            }
            (_, Conflicts::Reject) => {
                return Err(Reason::Invalid(ViolationCode::DuplicateEdgeId));
            }
            (_, Conflicts::First) => {
                dropped.insert(index);
            }
        }
    }
    Ok((owners, dropped))
}

/// A call, as far as spans say what it is.
struct Made {
    caller: Option<usize>,
    /// The service in which the callee does what it does.
    service: Name,
    /// The callee, as the graph names it.
    destination: Name,
    /// Service and operation of the callee.
    operation: Name,
    kind: CallType,
    /// Nanoseconds.
    start: i128,
    end: i128,
    /// Its place among its siblings: its start, before it is cut, and its span.
    place: (i128, usize),
    /// Its number among its siblings, where its span says so.
    number: Option<u32>,
    /// Nobody waited for it.
    is_asynchronous: bool,
    /// What the graph is named by, where the span says so.
    entry: Option<Name>,
}

struct Making<'a, 'n> {
    tree: &'a Tree<'a>,
    times: &'a [(i128, i128)],
    policy: &'a Policy,
    names: &'n mut Interner,
    calls: Vec<Made>,
}

impl Making<'_, '_> {
    /// A call into the span's service that its caller has no span of.
    fn call_into_service(&mut self, caller: Option<usize>, index: usize) -> Result<usize, Reason> {
        let span = &self.tree.spans[index];
        // A span inside of a service is one of its caller's where it does not say.
        let service = match (span.service.is_empty(), caller) {
            (true, Some(caller)) => self.calls[caller].service.clone(),
            _ => span.service.clone(),
        };
        self.push(caller, index, &[index], service, &span.operation)
    }

    /// A call of which there are both sides.
    fn call_to_callee(
        &mut self,
        caller: Option<usize>,
        index: usize,
        callee: usize,
    ) -> Result<usize, Reason> {
        let span = &self.tree.spans[callee];
        let service = if span.service.is_empty() {
            self.tree.spans[index].service.clone()
        } else {
            span.service.clone()
        };
        // What the callee does in turn is not what it was asked for.
        let operation = if span.kind.is_outgoing() {
            &self.tree.spans[index].operation
        } else {
            &span.operation
        };
        let call = self.push(caller, index, &[index, callee], service, operation)?;
        // The callee's end is a better guess than none.
        if self.tree.spans[index].end == 0 {
            let made = &mut self.calls[call];
            made.end = made.end.max(self.times[callee].1);
        }
        Ok(call)
    }

    /// A call of which there is the caller's side alone, and whether the callee has a name.
    fn call_to_peer(
        &mut self,
        caller: Option<usize>,
        index: usize,
    ) -> Result<(usize, bool), Reason> {
        let span = &self.tree.spans[index];
        let peer = peer(span);
        let service = match (self.policy.names, peer) {
            (Names::Service, Some(peer)) => self.names.name(peer),
            (Names::Service, None) => span.operation.clone(),
            // Operations below it are those of its own service.
            (Names::Operation, _) => span.service.clone(),
        };
        let call = self.push(caller, index, &[index], service, &span.operation)?;
        Ok((call, peer.is_some()))
    }

    /// A call with the times of the span `index`, of which `sides` say the type.
    fn push(
        &mut self,
        caller: Option<usize>,
        index: usize,
        sides: &[usize],
        service: Name,
        operation: &Name,
    ) -> Result<usize, Reason> {
        if service.is_empty() {
            return Err(Reason::NoService);
        }
        let spans: Vec<&Span> = sides.iter().map(|side| &self.tree.spans[*side]).collect();
        let operation = if operation.is_empty() {
            service.clone()
        } else {
            self.names.name(&format!("{service}/{operation}"))
        };
        let destination = match self.policy.names {
            Names::Service => service.clone(),
            Names::Operation => operation.clone(),
        };
        let own = |key: &str| spans[0].attribute(key).and_then(Value::as_text);
        let number = own(CALL_ID).and_then(|id| id.parse::<EdgeId>().ok());
        let (start, end) = self.times[index];
        self.calls.push(Made {
            caller,
            service,
            destination,
            operation,
            kind: call_type(&spans).unwrap_or(self.policy.default_type.0),
            start,
            end,
            place: (start, index),
            number: number.map(|id| id.number()),
            is_asynchronous: spans.iter().any(|span| is_asynchronous(span)),
            entry: own(ENTRY).filter(|entry| !entry.is_empty()).map(Name::from),
        });
        Ok(self.calls.len() - 1)
    }
}

/// Makes calls lie inside of those that made them.
fn fit(calls: &mut [Made], policy: &Policy, found: &mut Changes) -> Result<(), Reason> {
    for index in 1..calls.len() {
        let caller = calls[index].caller.expect("only the root has no caller");
        let (from, to) = (calls[caller].start, calls[caller].end);
        let call = &mut calls[index];
        let start = call.start.clamp(from, to);
        let end = call.end.clamp(start, to);
        if (start, end) == (call.start, call.end) {
            continue;
        }
        if policy.outside == Outside::Reject {
            return Err(Reason::Outside);
        }
        found.clipped += 1;
        found.late += u64::from(call.is_asynchronous && call.place.0 > to);
        found.before += (call.end - call.start).unsigned_abs();
        found.after += (end - start).unsigned_abs();
        (call.start, call.end) = (start, end);
    }
    Ok(())
}

/// The graph of calls that fit into each other.
fn assemble(calls: &[Made], policy: &Policy) -> Result<CallGraph, Reason> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); calls.len()];
    let mut depths = vec![1; calls.len()];
    for (index, call) in calls.iter().enumerate() {
        if let Some(caller) = call.caller {
            children[caller].push(index);
            depths[index] = depths[caller] + 1;
        }
    }
    if depths.iter().any(|depth| *depth > MAX_DEPTH) {
        return Err(Reason::TooDeep);
    }
    let root = &calls[0];
    let milliseconds =
        |time: i128| u32::try_from((time - root.start) / 1_000_000).map_err(|_| Reason::TimeRange);
    let mut rows = Vec::with_capacity(calls.len());
    let mut behind = None;
    let mut waiting = vec![(0, EdgeId::root())];
    while let Some((index, edge_id)) = waiting.pop() {
        let call = &calls[index];
        if behind.is_none() && call.service != root.service {
            behind = Some(&call.operation);
        }
        let mut below = children[index].clone();
        below.sort_by_key(|child| calls[*child].place);
        let mut numbers: Vec<Option<u32>> =
            below.iter().map(|child| calls[*child].number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let are_numbered = numbers.len() == below.len() && !numbers.contains(&None);
        let mut numbered: Vec<(u32, usize)> = (1..)
            .zip(below)
            .map(|(place, child)| {
                (calls[child].number.filter(|_| are_numbered).unwrap_or(place), child)
            })
            .collect();
        // The first child next.
        numbered.sort_unstable_by(|a, b| b.cmp(a));
        waiting.extend(numbered.iter().map(|(number, child)| (*child, edge_id.child(*number))));
        rows.push(CallRow {
            edge_id,
            source: call
                .caller
                .map_or(Name::from(USER), |caller| calls[caller].destination.clone()),
            destination: call.destination.clone(),
            kind: call.kind,
            start: milliseconds(call.start)?,
            finish: milliseconds(call.end)?,
        });
    }
    let entry = match (&root.entry, policy.entry) {
        (Some(entry), _) => entry.clone(),
        (None, Entry::BehindRoot) => behind.unwrap_or(&root.operation).clone(),
        (None, Entry::Root) => root.operation.clone(),
    };
    finish::judge(entry, &rows)
}

/// Whether nobody waits for what the span does.
fn is_asynchronous(span: &Span) -> bool {
    let reference = span.attribute(REFERENCE).and_then(Value::as_text);
    span.kind == SpanKind::Consumer || reference == Some(FOLLOWS)
}

/// Attributes that tell hosts apart, the surest first.
const HOSTS: [&str; 6] = ["host.id", "k8s.pod.name", "host.name", "hostname", "container.id", "ip"];

/// Whether two spans were recorded on one host: by the first attribute that both have, else by their
/// services.
fn is_same_host(one: &Span, other: &Span) -> bool {
    fn host<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
        attribute(&span.resource, key).or_else(|| span.attribute(key))
    }
    let both = HOSTS.iter().find_map(|key| host(one, key).zip(host(other, key)));
    both.map_or(one.service == other.service, |(one, other)| one == other)
}

/// Whom a span calls, where nobody recorded the callee's side.
fn peer(span: &Span) -> Option<&str> {
    const KEYS: [&str; 12] = [
        "peer.service",
        "service.peer.name",
        "messaging.destination.name",
        "messaging.destination",
        "server.address",
        "net.peer.name",
        "db.namespace",
        "db.name",
        "db.system.name",
        "db.system",
        "db.type",
        "messaging.system",
    ];
    let texts = KEYS.iter().filter_map(|key| span.attribute(key)?.as_text());
    texts.into_iter().find(|text| !text.is_empty())
}

/// What kind of call some spans are the sides of, the first of them that says so.
fn call_type(spans: &[&Span]) -> Option<CallType> {
    let by_attributes = spans.iter().find_map(|span| by_attributes(span));
    by_attributes.or_else(|| spans.iter().find_map(|span| by_words(&span.operation)))
}

/// By the attributes of OpenTelemetry's conventions, older and newer, and of OpenTracing's.
fn by_attributes(span: &Span) -> Option<CallType> {
    let text = |key: &str| span.attribute(key).and_then(Value::as_text);
    if let Some(Ok(kind)) = text(CALL_TYPE).map(str::parse) {
        return Some(kind);
    }
    let has = |family: &str| span.attributes.iter().any(|(key, _)| key.starts_with(family));
    let is_message = matches!(span.kind, SpanKind::Producer | SpanKind::Consumer);
    if is_message || has("messaging.") || has("message_bus.") {
        return Some(CallType::Mq);
    }
    if has("db.") {
        let keys = ["db.system.name", "db.system", "db.type"];
        let system = keys.iter().find_map(|key| text(key)).unwrap_or_default();
        return Some(if is_cache(system) { CallType::Mc } else { CallType::Db });
    }
    if has("rpc.") || has("grpc.") {
        return Some(CallType::Rpc);
    }
    if has("http.") || has("url.") {
        return Some(CallType::Http);
    }
    // OpenTracing's name of the library that made the span.
    let component = text("component")?.to_ascii_lowercase();
    let words: [(&[&str], CallType); 5] = [
        (&["kafka", "rabbitmq", "jms", "sqs", "nats", "pulsar"], CallType::Mq),
        (&["redis", "memcached", "jedis", "lettuce"], CallType::Mc),
        (&["jdbc", "mysql", "postgres", "mongo", "cassandra", "sql"], CallType::Db),
        (&["grpc", "dubbo", "thrift"], CallType::Rpc),
        (&["http", "servlet", "rest", "feign", "spring-web"], CallType::Http),
    ];
    let found = words.iter().find(|(words, _)| words.iter().any(|word| component.contains(word)));
    found.map(|(_, kind)| *kind)
}

/// Whether a store keeps its data in memory, as Memcached does.
fn is_cache(system: &str) -> bool {
    let system = system.to_ascii_lowercase();
    ["memcached", "redis", "valkey", "hazelcast", "dragonfly", "keydb"].contains(&system.as_str())
}

/// By the words with which tracing libraries begin names of operations.
fn by_words(operation: &str) -> Option<CallType> {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    const DATABASE: [&str; 7] =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "sql.", "Transaction.", "Session."];
    let is_request = METHODS.iter().any(|method| {
        operation.strip_prefix(method).is_some_and(|rest| rest.is_empty() || rest.starts_with(" /"))
    });
    if is_request || operation.starts_with("HTTP ") || operation.starts_with("/api/") {
        Some(CallType::Http)
    } else if DATABASE.iter().any(|start| operation.starts_with(start)) {
        Some(CallType::Db)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::spans::testing::{START, test_span};
    use crate::data::spans::{SpanId, SpanKind::*, TraceAddress, spans};
    use crate::testing::any_graph;

    fn judged(spans: Vec<Span>, policy: &Policy) -> (Result<CallGraph, Reason>, Changes) {
        let (mut names, mut changes) = (Interner::default(), Changes::default());
        (graph(spans, policy, false, &mut names, &mut changes), changes)
    }

    /// Each call as `id source>destination type start-finish`, and what was changed.
    fn told_of(spans: Vec<Span>, policy: &Policy) -> (Vec<String>, Changes) {
        let (graph, changes) = judged(spans, policy);
        let graph = graph.expect("a graph");
        let rows = graph.rows().into_iter().map(|row| {
            let CallRow { edge_id, source, destination, kind, start, finish } = row;
            format!("{edge_id} {source}>{destination} {kind} {start}-{finish}")
        });
        (rows.collect(), changes)
    }

    fn told(spans: Vec<Span>) -> Vec<String> {
        told_of(spans, &Policy::default()).0
    }

    fn lost(spans: Vec<Span>) -> Reason {
        judged(spans, &Policy::default()).0.expect_err("lost")
    }

    fn with(mut span: Span, attributes: &[(&str, &str)]) -> Span {
        let pairs = attributes.iter().map(|(key, value)| (Name::from(*key), (*value).into()));
        span.attributes.extend(pairs);
        span
    }

    fn named(mut span: Span, operation: &str) -> Span {
        span.operation = operation.into();
        span
    }

    proptest! {
        /// A graph's spans are read back as the same graph, in any order; it starts with its root.
        #[test]
        fn graphs_are_read_back(graph in any_graph(20), turn in any::<prop::sample::Index>()) {
            prop_assume!(graph.depth() <= MAX_DEPTH);
            let address = TraceAddress { seed: 0, index: 0, start: START };
            let mut spans = spans(&graph, address);
            let turn = turn.index(spans.len());
            spans.rotate_left(turn);
            let (read, changes) = judged(spans, &Policy::default());
            let start = graph.root().start;
            let moved: Vec<CallRow> = graph
                .rows()
                .into_iter()
                .map(|row| CallRow { start: row.start - start, finish: row.finish - start, ..row })
                .collect();
            let expected = CallGraph::from_rows(graph.service().clone(), &moved).unwrap();
            prop_assert_eq!(read, Ok(expected));
            prop_assert_eq!((changes.clipped, changes.implied, changes.unnamed), (0, 0, 0));
        }
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let one = |count: usize| any::<prop::sample::Index>().prop_map(move |of| of.index(count));
        (one(2), one(2), one(2), one(2), one(2), one(3)).prop_map(|(a, b, c, d, e, f)| Policy {
            names: [Names::Service, Names::Operation][a],
            entry: [Entry::Root, Entry::BehindRoot][b],
            fragments: [Fragments::Reject, Fragments::Largest][c],
            conflicts: [Conflicts::Reject, Conflicts::First][d],
            backwards: [Backwards::Keep, Backwards::Reject][e],
            outside: [Outside::Clip, Outside::Shift, Outside::Reject][f],
            default_type: DefaultType::default(),
        })
    }

    /// Spans that are mostly no tree.
    fn any_spans() -> impl Strategy<Value = Vec<Span>> {
        let time = prop_oneof![8 => START..START + 50_000_000, 1 => Just(0), 1 => any::<u64>()];
        let span = (
            1..9u64,
            0..9u64,
            prop::sample::select(&["", "a", "b", "c"][..]),
            prop::sample::select(&SpanKind::ALL[..]),
            time.clone(),
            time,
            0..3usize,
        );
        let spans = prop::collection::vec(span, 0..9);
        spans.prop_map(|spans| {
            let one = |(id, parent, service, kind, start, end, more)| {
                let mut span = test_span(id, parent, service, kind, 0, 0);
                (span.start, span.end) = (start, end);
                match more {
                    0 => span,
                    1 => with(span, &[("peer.service", "d"), (CALL_ID, "0.7")]),
                    _ => with(span, &[(REFERENCE, FOLLOWS), (CALL_TYPE, "mc")]),
                }
            };
            spans.into_iter().map(one).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Whatever the spans and the policy: a valid graph or a reason, the same for any order.
        #[test]
        fn no_spans_are_too_strange(
            spans in any_spans(), policy in any_policy(), turn in any::<prop::sample::Index>(),
        ) {
            let one = judged(spans.clone(), &policy);
            let mut turned = spans;
            if !turned.is_empty() {
                let turn = turn.index(turned.len());
                turned.rotate_left(turn);
            }
            prop_assert_eq!(one, judged(turned, &policy));
        }
    }

    #[test]
    fn the_two_sides_of_a_call_are_one_and_inner_spans_none() {
        // frontend -> cart -> redis, with spans inside of both.
        let spans = vec![
            with(test_span(1, 0, "frontend", Server, 0, 9_000), &[("http.route", "/")]),
            test_span(2, 1, "frontend", Internal, 500, 8_000),
            with(test_span(3, 2, "frontend", Client, 1_000, 7_000), &[("rpc.system", "grpc")]),
            test_span(4, 3, "frontend", Internal, 1_100, 1_200),
            test_span(5, 3, "cart", Server, 2_000, 6_000),
            test_span(6, 5, "cart", Internal, 2_500, 5_500),
            with(test_span(7, 6, "cart", Client, 3_000, 4_000), &[("db.system", "redis")]),
        ];
        let (rows, changes) = told_of(spans, &Policy::default());
        assert_eq!(
            rows,
            ["0 USER>frontend http 0-9", "0.1 frontend>cart rpc 1-7", "0.1.1 cart>redis mc 3-4",]
        );
        assert_eq!((changes.merged, changes.inner, changes.clipped), (1, 3, 0));
    }

    #[test]
    fn calls_of_which_a_side_is_missing() {
        // No caller's side; a caller's side without a callee's, in the callee; nobody's name.
        let spans = vec![
            test_span(1, 0, "a", Client, 0, 9_000),
            test_span(2, 1, "b", Internal, 1_000, 8_000),
            test_span(3, 2, "c", Client, 2_000, 7_000),
            test_span(4, 3, "d", Client, 3_000, 6_000),
        ];
        let (rows, changes) = told_of(spans, &Policy::default());
        assert_eq!(
            rows,
            [
                "0 USER>a rpc 0-9",
                "0.1 a>b rpc 0-9",
                "0.1.1 b>c rpc 2-7",
                "0.1.1.1 c>d rpc 2-7",
                "0.1.1.1.1 d>op-4 rpc 3-6",
            ]
        );
        assert_eq!((changes.implied, changes.unnamed, changes.merged), (3, 1, 1));
    }

    #[test]
    fn libraries_below_each_other_make_one_call_and_retries_several() {
        let spans = vec![
            test_span(1, 0, "a", Server, 0, 9_000),
            test_span(2, 1, "a", Client, 1_000, 8_000),
            test_span(3, 2, "a", Client, 2_000, 3_000),
            test_span(4, 3, "b", Server, 2_100, 2_900),
            test_span(5, 2, "a", Client, 4_000, 5_000),
            test_span(6, 5, "b", Server, 4_100, 4_900),
        ];
        let rows = told(spans);
        assert_eq!(rows, ["0 USER>a rpc 0-9", "0.1 a>b rpc 2-3", "0.2 a>b rpc 4-5"]);
        // Two callees below one caller's side.
        let spans = vec![
            test_span(1, 0, "a", Server, 0, 9_000),
            test_span(2, 1, "a", Client, 1_000, 8_000),
            test_span(3, 2, "b", Server, 2_000, 3_000),
            test_span(4, 2, "c", Server, 4_000, 5_000),
        ];
        assert_eq!(told(spans), ["0 USER>a rpc 0-9", "0.1 a>b rpc 1-8", "0.2 a>c rpc 4-5"]);
    }

    #[test]
    fn sides_that_share_an_id_are_one_call() {
        let expected = ["0 USER>a rpc 0-9", "0.1 a>b rpc 1-7", "0.1.1 b>db rpc 3-4"];
        let root = || test_span(1, 0, "a", Server, 0, 9_000);
        let caller = || test_span(2, 1, "a", Client, 1_000, 7_000);
        let below = || with(test_span(3, 2, "b", Client, 3_000, 4_000), &[("peer.service", "db")]);
        for parent in [0, 1] {
            let callee = || test_span(2, parent, "b", Server, 2_000, 6_000);
            assert_eq!(told(vec![caller(), callee(), root(), below()]), expected);
            assert_eq!(told(vec![callee(), below(), root(), caller()]), expected);
            // The callee's clock is behind.
            let early = Span { start: START + 500_000, ..callee() };
            assert_eq!(told(vec![caller(), early, root(), below()]), expected);
        }
        // A child of the caller's side stays there.
        let inner = test_span(4, 2, "a", Client, 2_000, 2_500);
        let rows = told(vec![caller(), test_span(2, 1, "b", Server, 2_000, 6_000), root(), inner]);
        assert_eq!(rows[2], "0.2 a>op-4 rpc 2-2");
    }

    #[test]
    fn operations_may_be_the_microservices() {
        let policy = Policy { names: Names::Operation, ..Policy::default() };
        let spans = vec![
            named(test_span(1, 0, "a", Server, 0, 9_000), "GET /"),
            named(test_span(2, 1, "a", Internal, 1_000, 8_000), "load"),
            named(test_span(3, 2, "a", Client, 2_000, 7_000), "call"),
            named(test_span(4, 3, "b", Server, 3_000, 6_000), "get"),
            named(test_span(5, 4, "b", Client, 4_000, 5_000), "SELECT x"),
        ];
        let (rows, changes) = told_of(spans, &policy);
        assert_eq!(
            rows,
            [
                "0 USER>a/GET / http 0-9",
                "0.1 a/GET />a/load rpc 1-8",
                "0.1.1 a/load>b/get rpc 2-7",
                "0.1.1.1 b/get>b/SELECT x db 4-5",
            ]
        );
        assert_eq!((changes.merged, changes.inner), (1, 0));
    }

    #[test]
    fn types_come_from_attributes_old_and_new() {
        let kind = |side: SpanKind, attributes: &[(&str, &str)], operation: &str| {
            let call = named(with(test_span(2, 1, "a", side, 1, 2), attributes), operation);
            let (graph, _) =
                judged(vec![test_span(1, 0, "a", Server, 0, 9), call], &Policy::default());
            graph.unwrap().calls()[1].kind.as_str()
        };
        for (attributes, expected) in [
            (&[("http.method", "GET")][..], "http"),
            (&[("url.full", "http://b/")], "http"),
            (&[("rpc.system", "grpc"), ("http.request.method", "POST")], "rpc"),
            (&[("db.system.name", "postgresql")], "db"),
            (&[("db.system", "Redis"), ("rpc.system", "x")], "mc"),
            (&[("db.statement", "GET k"), ("http.url", "x")], "db"),
            (&[("messaging.system", "sqs"), ("rpc.system", "aws-api")], "mq"),
            (&[("component", "java-jdbc")], "db"),
            (&[("component", "gRPC")], "rpc"),
            (&[("db.system", "redis"), (CALL_TYPE, "http")], "http"),
            (&[], "rpc"),
        ] {
            assert_eq!(kind(Client, attributes, "x"), expected, "{attributes:?}");
        }
        assert_eq!(kind(Producer, &[], "x"), "mq");
        for (operation, expected) in [
            ("GET /x", "http"),
            ("GET", "http"),
            ("GETTER", "rpc"),
            ("SELECT 1", "db"),
            ("DELETE x", "db"),
        ] {
            assert_eq!(kind(Client, &[], operation), expected);
        }
    }

    #[test]
    fn traces_that_are_no_tree_are_lost_or_cut_to_their_largest() {
        let root = test_span(1, 0, "a", Server, 0, 9_000);
        let child = test_span(2, 1, "b", Server, 1_000, 2_000);
        let other = test_span(3, 0, "c", Server, 1_000, 2_000);
        let orphan = test_span(4, 9, "d", Server, 3_000, 8_000);
        let below = test_span(5, 4, "e", Server, 4_000, 5_000);
        let deeper = test_span(6, 5, "f", Server, 4_000, 5_000);
        let one = test_span(7, 8, "g", Server, 0, 1);
        let two = test_span(8, 7, "g", Server, 0, 1);
        let whole = [root.clone(), child.clone()];
        let invalid = Reason::Invalid;
        let with = |spans: &[&Span]| -> Vec<Span> {
            whole.iter().cloned().chain(spans.iter().map(|span| (*span).clone())).collect()
        };
        assert_eq!(lost(with(&[&other])), invalid(ViolationCode::SecondRoot));
        assert_eq!(lost(with(&[&orphan])), invalid(ViolationCode::MissingParent));
        assert_eq!(lost(vec![child.clone()]), invalid(ViolationCode::NoRoot));
        assert_eq!(lost(with(&[&one, &two])), Reason::Circle);
        assert_eq!(lost(vec![one.clone(), two.clone()]), Reason::Circle);
        assert_eq!(lost(vec![test_span(1, 1, "a", Server, 0, 1)]), Reason::Circle);
        let policy = Policy { fragments: Fragments::Largest, ..Policy::default() };
        for (spans, first, apart) in [
            (with(&[&other]), "0 USER>a rpc 0-9", 1),
            (with(&[&orphan, &one, &two]), "0 USER>a rpc 0-9", 3),
            // Of two trees of one size the root's is kept.
            (with(&[&orphan, &below]), "0 USER>a rpc 0-9", 2),
            (with(&[&orphan, &below, &deeper]), "0 USER>d rpc 0-5", 2),
        ] {
            let (rows, changes) = told_of(spans, &policy);
            assert_eq!((rows[0].as_str(), changes.apart), (first, apart));
        }
        assert_eq!(judged(vec![one, two], &policy).0, Err(Reason::Circle));
    }

    #[test]
    fn spans_with_one_id_are_repetitions_or_conflicts() {
        let spans = [test_span(1, 0, "a", Server, 0, 9), test_span(2, 1, "b", Server, 1, 2)];
        let twice = [&spans[..], &spans[..]].concat();
        let (rows, changes) = told_of(twice, &Policy::default());
        assert_eq!((rows.len(), changes.repeated), (2, 2));
        let other = test_span(2, 1, "c", Server, 3, 4);
        let conflict = [&spans[..], &[other]].concat();
        assert_eq!(lost(conflict.clone()), Reason::Invalid(ViolationCode::DuplicateEdgeId));
        let policy = Policy { conflicts: Conflicts::First, ..Policy::default() };
        let (rows, changes) = told_of(conflict, &policy);
        assert_eq!((rows[1].as_str(), changes.conflicting), ("0.1 a>b rpc 0-0", 1));
    }

    #[test]
    fn spans_that_end_before_they_start_last_no_time() {
        let root = test_span(1, 0, "a", Server, 0, 9_000);
        let back = Span { end: START + 1_999_999, ..test_span(2, 1, "b", Server, 2_000, 0) };
        let endless = Span { end: 0, ..test_span(3, 2, "c", Server, 2_000, 0) };
        let spans = vec![root, back, endless];
        let (rows, changes) = told_of(spans.clone(), &Policy::default());
        assert_eq!(rows[1..], ["0.1 a>b rpc 2-2", "0.1.1 b>c rpc 2-2"]);
        assert_eq!((changes.backwards, changes.clipped), (2, 0));
        let policy = Policy { backwards: Backwards::Reject, ..Policy::default() };
        assert_eq!(judged(spans.clone(), &policy).0, Err(Reason::Backwards));
        let unknown = spans.into_iter().map(|span| Span { start: 0, ..span }).collect();
        assert_eq!(lost(unknown), Reason::NoStart);
    }

    #[test]
    fn what_one_side_does_not_know_is_the_others() {
        let root = test_span(1, 0, "a", Server, 0, 9_000);
        let caller = test_span(2, 1, "a", Client, 1_000, 7_000);
        let callee = test_span(2, 1, "b", Server, 2_000, 6_000);
        // As Zipkin's propagation wants it, the callee leaves times to the caller.
        let timeless = Span { start: 0, end: 0, ..callee.clone() };
        let below = test_span(3, 2, "c", Server, 3_000, 4_000);
        let spans = vec![root.clone(), caller.clone(), timeless, below.clone()];
        let (rows, changes) = told_of(spans, &Policy::default());
        assert_eq!(rows, ["0 USER>a rpc 0-9", "0.1 a>b rpc 1-7", "0.1.1 b>c rpc 3-4"]);
        assert_eq!(changes.backwards, 0);
        // The caller never heard of the end.
        let endless = Span { end: 0, ..caller };
        let (rows, changes) =
            told_of(vec![root.clone(), endless, callee, below], &Policy::default());
        assert_eq!(rows[1], "0.1 a>b rpc 1-6");
        assert_eq!(changes.backwards, 1);
        // Nobody else knows when the root, or a call of one side, began.
        let unknown = |span: Span| Span { start: 0, ..span };
        assert_eq!(lost(vec![unknown(root.clone())]), Reason::NoStart);
        assert_eq!(lost(vec![root, unknown(test_span(4, 1, "a", Client, 0, 5))]), Reason::NoStart);
    }

    /// On a host of its own.
    fn on(span: Span, host: &str) -> Span {
        let resource = vec![("ip".into(), host.into())];
        Span { resource: std::sync::Arc::new(resource), ..span }
    }

    #[test]
    fn clocks_that_disagree_are_cut_shifted_or_refused() {
        let shift = Policy { outside: Outside::Shift, ..Policy::default() };
        // Times in units of a millisecond, to be seen in the graph.
        let at = |id, parent, service: &str, start: u64, end: u64| {
            test_span(id, parent, service, Server, start * 1000, end * 1000)
        };
        let root = || on(at(1, 0, "a", 1_000, 2_000), "h1");
        // Another host, with its own child.
        let skewed =
            vec![root(), on(at(2, 1, "b", 500, 1_100), "h2"), on(at(3, 2, "c", 600, 700), "h2")];
        let (rows, changes) = told_of(skewed.clone(), &Policy::default());
        assert_eq!(rows[1..], ["0.1 a>b rpc 0-100", "0.1.1 b>c rpc 0-0"]);
        assert_eq!((changes.clipped, changes.before, changes.after), (2, 700_000_000, 100_000_000));
        let (rows, changes) = told_of(skewed.clone(), &shift);
        assert_eq!(rows[1..], ["0.1 a>b rpc 200-800", "0.1.1 b>c rpc 300-400"]);
        assert_eq!((changes.shifted, changes.clipped), (2, 0));
        let reject = Policy { outside: Outside::Reject, ..Policy::default() };
        assert_eq!(judged(skewed, &reject).0, Err(Reason::Outside));
        // Longer than its parent: only its start is moved, and its end is cut.
        let longer = vec![root(), on(at(2, 1, "b", 500, 2_100), "h2")];
        let (rows, changes) = told_of(longer, &shift);
        assert_eq!(
            (rows[1].as_str(), changes.shifted, changes.clipped),
            ("0.1 a>b rpc 0-1000", 1, 1)
        );
        // The same host has one clock.
        let (rows, changes) = told_of(vec![root(), on(at(2, 1, "b", 500, 1_100), "h1")], &shift);
        assert_eq!((rows[1].as_str(), changes.shifted), ("0.1 a>b rpc 0-100", 0));
        // Nobody waited for it.
        let follows = with(on(at(2, 1, "b", 5_000, 5_100), "h2"), &[(REFERENCE, FOLLOWS)]);
        let (rows, changes) = told_of(vec![root(), follows], &shift);
        assert_eq!(rows[1], "0.1 a>b rpc 1000-1000");
        assert_eq!((changes.shifted, changes.clipped, changes.late), (0, 1, 1));
        // Nothing tells hosts: services do.
        let plain =
            vec![at(1, 0, "a", 1_000, 2_000), at(2, 1, "b", 500, 1_100), at(3, 1, "a", 500, 1_100)];
        let (rows, changes) = told_of(plain, &shift);
        assert_eq!(rows[1..], ["0.1 a>a rpc 0-100", "0.2 a>b rpc 200-800"]);
        assert_eq!(changes.shifted, 1);
    }

    #[test]
    fn graphs_are_named_by_their_roots_or_by_what_is_behind() {
        let spans = vec![
            named(test_span(1, 0, "gateway", Server, 0, 9), "GET /"),
            named(test_span(2, 1, "gateway", Server, 0, 9), "route"),
            named(test_span(3, 2, "orders", Server, 1, 5), "list"),
        ];
        let name = |entry| {
            let policy = Policy { entry, ..Policy::default() };
            judged(spans.clone(), &policy).0.unwrap().service().to_string()
        };
        assert_eq!(
            (name(Entry::Root), name(Entry::BehindRoot)),
            ("gateway/GET /".into(), "orders/list".into())
        );
    }

    #[test]
    fn services_without_a_name_are_their_callers_or_lose_the_trace() {
        let spans = |root: &str| {
            vec![test_span(1, 0, root, Server, 0, 9), test_span(2, 1, "", Internal, 1, 5)]
        };
        assert_eq!(told(spans("a")), ["0 USER>a rpc 0-0"]);
        assert_eq!(lost(spans("")), Reason::NoService);
    }

    #[test]
    fn long_chains_are_too_deep_and_cost_nothing() {
        let chain =
            |length: u64| (1..=length).map(|id| test_span(id, id - 1, "a", Server, 0, 9)).collect();
        assert!(judged(chain(15), &Policy::default()).0.is_ok());
        assert_eq!(lost(chain(16)), Reason::TooDeep);
        assert_eq!(lost(chain(20_000)), Reason::TooDeep);
        let ids: Vec<SpanId> = chain(2).iter().map(|span: &Span| span.id).collect();
        assert_eq!(ids, [SpanId(1), SpanId(2)]);
    }
}
