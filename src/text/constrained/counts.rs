//! Counts of layers to come: which num_edges, remaining_depth, num_current_edges and num_subgraphs a
//! sub-condition may still have so that the graph can be completed.
//!
//! A layer with remaining depth 0 has as many edges as it has calls in all. A layer of c edges, s of
//! which have subgraphs, with remaining depth d ≥ 1 needs s ≥ 1, s ≤ c and c + d + s − 1 calls at
//! least: the deepest subgraph needs d of them and each other one at least one. More calls always fit,
//! since layers may be of any width. These conditions are sufficient too, which is why a state that
//! keeps to them is never a dead end.

use super::ranges::Ranges;

/// Calls below a layer whose number is not given, at most.
const MOST_EDGES: u32 = 500;
/// Levels below a layer whose depth is not given, at most.
const MOST_DEPTH: u32 = 20;

/// The counts of a sub-condition that have been chosen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub edges: Option<u32>,
    pub depth: Option<u32>,
    pub current: Option<u32>,
    pub subgraphs: Option<u32>,
}

/// One of the [`Counts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Edges,
    Depth,
    Current,
    Subgraphs,
}

impl Counts {
    pub fn set(&mut self, count: Count, value: u32) {
        let place = match count {
            Count::Edges => &mut self.edges,
            Count::Depth => &mut self.depth,
            Count::Current => &mut self.current,
            Count::Subgraphs => &mut self.subgraphs,
        };
        *place = Some(value);
    }
}

/// Both ends included.
type Span = (i64, i64);

/// Counts that are possible at one depth, before the conditions between them.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub depth: u32,
    edges: Span,
    current: Span,
    subgraphs: Span,
}

/// `span` without all values but the chosen one, if there is one.
fn narrowed(span: Span, chosen: Option<u32>) -> Span {
    match chosen.map(i64::from) {
        Some(value) if (span.0..=span.1).contains(&value) => (value, value),
        Some(_) => (1, 0),
        None => span,
    }
}

impl Case {
    /// Values that `count` may take beside what is chosen; `None` if there are none.
    fn domain(&self, chosen: &Counts, count: Count) -> Option<Span> {
        if chosen.depth.is_some_and(|depth| depth != self.depth) {
            return None;
        }
        let depth = i64::from(self.depth);
        let edges = narrowed(self.edges, chosen.edges);
        let current = narrowed(self.current, chosen.current);
        let subgraphs = narrowed(self.subgraphs, chosen.subgraphs);
        let spans = if depth == 0 {
            let both = (edges.0.max(current.0), edges.1.min(current.1));
            let leaf = subgraphs.0 <= 0 && subgraphs.1 >= 0;
            (leaf && both.0 <= both.1).then_some((both, both, (0, 0)))
        } else {
            // The fewest of everything must fit.
            let fewest = subgraphs.0.max(1);
            let narrow = current.0.max(fewest);
            let least = narrow + depth + fewest - 1;
            let fits = fewest <= subgraphs.1 && narrow <= current.1 && least <= edges.1;
            let span = || {
                let wide = current.1.min(edges.1 - depth - fewest + 1);
                // Most subgraphs: as many as edges, or as few edges as possible.
                let even = (edges.1 - depth + 1).div_euclid(2);
                let most = if even >= current.0 {
                    even
                } else {
                    (edges.1 - current.0 - depth + 1).min(current.0)
                };
                let most = most.min(subgraphs.1).min(current.1);
                ((edges.0.max(least), edges.1), (narrow, wide), (fewest, most))
            };
            fits.then(span).filter(|(edges, ..)| edges.0 <= edges.1)
        };
        spans.map(|(edges, current, subgraphs)| match count {
            Count::Edges => edges,
            Count::Depth => (depth, depth),
            Count::Current => current,
            Count::Subgraphs => subgraphs,
        })
    }
}

/// Values that `count` may take beside what is chosen.
pub fn domain(cases: &[Case], chosen: &Counts, count: Count) -> Ranges {
    let mut ranges = Ranges::default();
    for (low, high) in cases.iter().filter_map(|case| case.domain(chosen, count)) {
        ranges.add(low.max(0) as u32, high.max(-1) as u32);
    }
    ranges
}

/// What the subgraphs of a layer have to make up together.
#[derive(Clone, Copy, Debug)]
pub struct Subgraphs {
    /// Remaining depth of the layer, where it is given.
    pub depth: Option<u32>,
    /// Calls that no subgraph has yet, where their number is given.
    pub rest: Option<u32>,
    /// Subgraphs to come.
    pub left: u32,
    /// Whether a subgraph keeps the depth.
    pub deep: bool,
}

impl Subgraphs {
    /// What the next subgraph may be.
    pub fn cases(&self) -> Vec<Case> {
        let later = self.left.saturating_sub(1);
        let deepest = match (self.depth, self.rest) {
            (Some(depth), _) => depth,
            (None, Some(rest)) => rest.min(MOST_DEPTH),
            (None, None) => MOST_DEPTH,
        };
        let cases = (0..deepest).filter_map(|depth| {
            let keeps = self.depth == Some(depth + 1);
            let owed = self.depth.filter(|_| !self.deep && !keeps);
            let after = match (owed, later) {
                (Some(_), 0) => return None,
                (Some(owed), later) => owed + later - 1,
                (None, later) => later,
            };
            let edges = match self.rest.map(i64::from) {
                Some(rest) if later == 0 => (rest, rest),
                Some(rest) => (1, rest - i64::from(after)),
                None => (1, i64::from(MOST_EDGES)),
            };
            let any = (0, i64::from(u32::MAX));
            (edges.1 > i64::from(depth)).then_some(Case {
                depth,
                edges,
                current: (1, any.1),
                subgraphs: any,
            })
        });
        cases.collect()
    }

    pub fn take(&mut self, counts: &Counts) {
        self.left = self.left.saturating_sub(1);
        self.rest = self.rest.zip(counts.edges).map(|(rest, edges)| rest.saturating_sub(edges));
        self.deep |= self.depth.is_some() && self.depth == counts.depth.map(|depth| depth + 1);
    }
}

/// What the parts of a wide layer have to make up together.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Remaining depth of the layer.
    pub depth: u32,
    /// Calls that no part has yet.
    pub edges: u32,
    /// Subgraphs that no part has yet.
    pub subgraphs: u32,
    /// Edges of the parts to come.
    pub widths: std::collections::VecDeque<u32>,
    /// Whether a part keeps the depth.
    pub deep: bool,
}

impl Parts {
    /// What the next part may be. Its width is that of the first of `widths`.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let width = self.widths.front().copied().unwrap_or(0);
        for depth in 0..=self.depth {
            let most = if depth == 0 { 0 } else { width.min(self.subgraphs) };
            for subgraphs in u32::from(depth > 0)..=most {
                let Some(edges) = self.edges(depth, subgraphs) else { continue };
                let one = |value: u32| (i64::from(value), i64::from(value));
                cases.push(Case { depth, edges, current: one(width), subgraphs: one(subgraphs) });
            }
        }
        cases
    }

    /// Calls of the next part if it has this depth and so many subgraphs.
    fn edges(&self, depth: u32, subgraphs: u32) -> Option<Span> {
        let later: i64 = self.widths.iter().skip(1).copied().map(i64::from).sum();
        let rest = i64::from(self.edges) - later;
        let open = i64::from(self.subgraphs - subgraphs);
        let owed = self.depth > 0 && !self.deep && depth != self.depth;
        if open == 0 {
            // Nothing may lie below the later parts.
            return (!owed).then_some((rest, rest));
        }
        let below = open + if owed { i64::from(self.depth) - 1 } else { 0 };
        (open <= later && rest - below >= 1).then_some((1, rest - below))
    }

    pub fn take(&mut self, counts: &Counts) {
        self.widths.pop_front();
        self.edges = self.edges.saturating_sub(counts.edges.unwrap_or(0));
        self.subgraphs = self.subgraphs.saturating_sub(counts.subgraphs.unwrap_or(0));
        self.deep |= counts.depth == Some(self.depth);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Count; 4] = [Count::Edges, Count::Depth, Count::Current, Count::Subgraphs];

    /// Whether a layer of these counts can be completed: found by trying every way.
    fn possible(edges: u32, depth: u32, current: u32, subgraphs: u32) -> bool {
        if current == 0 || edges < current || subgraphs > current {
            return false;
        }
        fits(edges - current, depth, subgraphs, false)
    }

    fn fits(rest: u32, depth: u32, left: u32, deep: bool) -> bool {
        if left == 0 {
            return rest == 0 && (deep || depth == 0);
        }
        (0..depth).any(|below| {
            (1..=rest).any(|edges| {
                let some = (1..=edges).any(|c| (0..=c).any(|s| possible(edges, below, c, s)));
                some && fits(rest - edges, depth, left - 1, deep || below + 1 == depth)
            })
        })
    }

    /// The next subgraph has these counts, and the others can be completed.
    fn leads_on(budget: &Subgraphs, [edges, depth, current, subgraphs]: [u32; 4]) -> bool {
        let (Some(own), Some(rest)) = (budget.depth, budget.rest) else { return false };
        depth < own
            && edges <= rest
            && possible(edges, depth, current, subgraphs)
            && fits(rest - edges, own, budget.left - 1, budget.deep || depth + 1 == own)
    }

    #[test]
    fn domains_are_exactly_what_can_be_completed() {
        for (depth, rest, left, deep) in (1..4).flat_map(|d| {
            (1..7).flat_map(move |r| (1..4).flat_map(move |l| [(d, r, l, false), (d, r, l, true)]))
        }) {
            let budget = Subgraphs { depth: Some(depth), rest: Some(rest), left, deep };
            let cases = budget.cases();
            let mut all = Vec::new();
            for edges in 1..=rest {
                for below in 0..depth {
                    for (current, subgraphs) in
                        (1..=edges).flat_map(|c| (0..=c).map(move |s| (c, s)))
                    {
                        let counts = [edges, below, current, subgraphs];
                        if leads_on(&budget, counts) {
                            all.push(counts);
                        }
                    }
                }
            }
            // Every choice of what is known, and every count that is asked for.
            for known in 0..16u32 {
                let probes: Vec<[u32; 4]> = if known == 0 { vec![[0; 4]] } else { all.clone() };
                for probe in probes {
                    let mut chosen = Counts::default();
                    for (place, count) in
                        ALL.iter().enumerate().filter(|(p, _)| known >> p & 1 == 1)
                    {
                        chosen.set(*count, probe[place]);
                    }
                    for (place, count) in
                        ALL.iter().enumerate().filter(|(p, _)| known >> p & 1 == 0)
                    {
                        let found = domain(&cases, &chosen, *count);
                        let agrees = |counts: &&[u32; 4]| {
                            (0..4).all(|p| known >> p & 1 == 0 || counts[p] == probe[p])
                        };
                        for value in 0..=rest + 1 {
                            let expected = all.iter().filter(agrees).any(|c| c[place] == value);
                            assert_eq!(
                                found.contains(value),
                                expected,
                                "{budget:?} {chosen:?} {count:?} {value}"
                            );
                        }
                    }
                }
            }
        }
    }

    proptest! {
        /// Whatever is chosen within the domains, in whatever order, the parts add up.
        #[test]
        fn parts_always_add_up(
            depth in 0..6u32,
            widths in prop::collection::vec(1..16u32, 2..6),
            more in (0..80u32, 0..60u32),
            picks in prop::collection::vec((0..24usize, any::<u32>()), 20),
        ) {
            let width: u32 = widths.iter().sum();
            let subgraphs = if depth == 0 { 0 } else { 1 + more.0 % width };
            let edges = if depth == 0 { width } else { width + depth + subgraphs - 1 + more.1 };
            let mut parts = Parts {
                depth, edges, subgraphs, widths: widths.clone().into(), deep: false,
            };
            let mut picks = picks.into_iter();
            for width in widths {
                let cases = parts.cases();
                let mut counts = Counts::default();
                let mut open = ALL.to_vec();
                while !open.is_empty() {
                    let (order, pick) = picks.next().unwrap_or((0, 0));
                    let count = open.remove(order % open.len());
                    let found = domain(&cases, &counts, count);
                    let values: Vec<u32> = (0..=edges).filter(|v| found.contains(*v)).collect();
                    prop_assert!(!values.is_empty(), "{parts:?} {counts:?} {count:?}");
                    counts.set(count, values[pick as usize % values.len()]);
                }
                prop_assert_eq!(counts.current, Some(width));
                parts.take(&counts);
            }
            prop_assert_eq!((parts.edges, parts.subgraphs), (0, 0));
            prop_assert!(parts.deep || depth == 0);
        }
    }
}
