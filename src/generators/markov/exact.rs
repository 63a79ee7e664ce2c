//! Drawing from the Markov model *given* the number of calls and the depth, exactly.
//!
//! What lies below a call depends on nothing outside, so the probability that it has n calls on at most
//! (or exactly) d levels follows from those of smaller parts by dynamic programming. A graph is then
//! drawn from the top: each choice with the probability that the model gives it, times the probability
//! that what is left can still be spent. Nothing is rejected, and no choice bends the distribution.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Place, TrainedMarkov};
use crate::generators::tables::Callee;
use crate::generators::times::Tree;
use crate::graph::{Condition, Generated, Name, Violation, ViolationCode};

/// Largest request: the cost grows with the square of the calls and with the levels.
const MAX_CALLS: u32 = 400;
const MAX_LEVELS: u32 = 40;

/// One answer per condition; `stream` is the randomness of each.
pub fn answers(
    model: &TrainedMarkov,
    conditions: &[Condition],
    stream: impl Fn(usize) -> ChaCha8Rng + Sync,
) -> Vec<Generated> {
    let mut services: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
    for (index, condition) in conditions.iter().enumerate() {
        services.entry(&condition.service).or_default().push(index);
    }
    let services: Vec<(&Name, Vec<usize>)> = services.into_iter().collect();
    let of_service = |(service, indices): &(&Name, Vec<usize>)| {
        let feasible = |index: &&usize| check(&conditions[**index]).is_ok();
        let most = indices.iter().filter(feasible).map(|index| most_calls(&conditions[*index]));
        let mut counts = Counts::new(model, service, most.max().unwrap_or(1));
        let answer = |index: &usize| {
            let (condition, mut rng) = (&conditions[*index], stream(*index));
            let tree = check(condition).and_then(|()| counts.tree(condition, &mut rng));
            let answer = match tree {
                Ok(tree) => model.answer(condition, &tree, &mut rng),
                Err(failure) => Generated { failure: Some(failure), ..Generated::default() },
            };
            (*index, answer)
        };
        indices.iter().map(answer).collect::<Vec<_>>()
    };
    let mut found: Vec<(usize, Generated)> =
        services.par_iter().flat_map_iter(of_service).collect();
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, answer)| answer).collect()
}

/// Calls of the largest graph that may answer.
fn most_calls(condition: &Condition) -> u32 {
    condition.num_edges.unwrap_or(MAX_CALLS).min(MAX_CALLS)
}

/// # Errors
/// Why no graph answers the request, or none within limits.
fn check(condition: &Condition) -> Result<(), Violation> {
    let refused = |detail: String| Err(Violation::new(ViolationCode::Infeasible, detail));
    let (edges, depth) = (condition.num_edges, condition.depth);
    if edges == Some(0) || depth == Some(0) {
        return refused("a graph has one call at least".into());
    }
    if let (Some(edges), Some(depth)) = (edges, depth)
        && (depth > edges || (depth == 1 && edges > 1))
    {
        return refused(format!("no graph has {edges} calls and depth {depth}"));
    }
    if edges.is_some_and(|edges| edges > MAX_CALLS) || depth.is_some_and(|d| d > MAX_LEVELS) {
        return refused(format!("more than {MAX_CALLS} calls or {MAX_LEVELS} levels"));
    }
    Ok(())
}

/// How many levels the calls below a call have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Levels {
    AtMost,
    Exactly,
}

/// Probabilities by number of calls, for "at most" and "exactly" so many levels.
struct Series([Vec<f64>; 2]);

impl Series {
    fn get(&self, levels: Levels) -> &[f64] {
        &self.0[levels as usize]
    }
}

/// The children of one microservice at one depth, with so many levels below it.
struct Block {
    /// After each child that it may just have made, and before the first (`None`): what comes next.
    follows: HashMap<Option<usize>, Vec<(Option<usize>, f64)>>,
    /// The rest of the children and all below them, by the child before.
    rest: HashMap<Option<usize>, Series>,
    /// The same with a given child first, that one not counted as chance.
    from: Vec<Series>,
    /// Microservices and types that children may have.
    callees: Vec<Callee>,
    /// What lies below each of them: with one level less, and with two less.
    below: Vec<(Rc<Block>, Option<Rc<Block>>)>,
}

/// What may come next, `None` for the end, with its probability.
type Distribution = Vec<(Option<Callee>, f64)>;

/// All that is known of one service.
struct Counts<'a> {
    model: &'a TrainedMarkov,
    service: &'a Name,
    /// Calls of the largest graph.
    most: usize,
    blocks: HashMap<(Name, u32, u32), Rc<Block>>,
    distributions: HashMap<Place, Rc<Distribution>>,
}

impl<'a> Counts<'a> {
    fn new(model: &'a TrainedMarkov, service: &'a Name, most: u32) -> Self {
        let (blocks, distributions) = (HashMap::new(), HashMap::new());
        Self { model, service, most: most as usize, blocks, distributions }
    }

    fn distribution(&mut self, place: Place) -> Rc<Distribution> {
        let (model, service) = (self.model, self.service);
        let entry = self.distributions.entry(place);
        let made = entry.or_insert_with_key(|place| Rc::new(model.distribution(service, place)));
        made.clone()
    }

    /// The calls below `source`, which is called at `depth`, on `levels` levels.
    fn block(&mut self, source: &Name, depth: u32, levels: u32) -> Rc<Block> {
        let key = (source.clone(), depth, levels);
        if let Some(block) = self.blocks.get(&key) {
            return block.clone();
        }
        let block = Rc::new(self.make(source, depth, levels));
        self.blocks.insert(key, block.clone());
        block
    }

    fn make(&mut self, source: &Name, depth: u32, levels: u32) -> Block {
        let mut block = Block {
            follows: HashMap::new(),
            rest: HashMap::new(),
            from: Vec::new(),
            callees: Vec::new(),
            below: Vec::new(),
        };
        self.explore(source, depth, levels, &mut block);
        for index in 0..block.callees.len() {
            let destination = block.callees[index].0.clone();
            let near = self.block(&destination, depth + 1, levels - 1);
            let far = (levels > 1).then(|| self.block(&destination, depth + 1, levels - 2));
            block.below.push((near, far));
        }
        let zeros = || vec![0.0; self.most];
        block.from = block.callees.iter().map(|_| Series([zeros(), zeros()])).collect();
        let befores: Vec<Option<usize>> = block.follows.keys().copied().collect();
        block.rest = befores.iter().map(|before| (*before, Series([zeros(), zeros()]))).collect();
        for calls in 0..self.most {
            for child in 0..block.callees.len() {
                for kind in [Levels::AtMost, Levels::Exactly] {
                    let sum = block.splits(child, calls, kind).map(|(_, _, _, p)| p).sum();
                    block.from[child].0[kind as usize][calls] = sum;
                }
            }
            for (before, next) in &block.follows {
                let Some(series) = block.rest.get_mut(before) else { continue };
                for kind in [Levels::AtMost, Levels::Exactly] {
                    let ends = calls == 0 && (kind == Levels::AtMost || levels == 0);
                    let value = |(callee, p): &(Option<usize>, f64)| match callee {
                        None if ends => *p,
                        None => 0.0,
                        Some(child) => p * block.from[*child].get(kind)[calls],
                    };
                    series.0[kind as usize][calls] = next.iter().map(value).sum();
                }
            }
        }
        block
    }

    /// Finds all children that can follow one another; none where no level is left.
    fn explore(&mut self, source: &Name, depth: u32, levels: u32, block: &mut Block) {
        let mut numbers: HashMap<Callee, usize> = HashMap::new();
        let mut open: Vec<Option<usize>> = vec![None];
        let mut seen: HashSet<Option<usize>> = HashSet::from([None]);
        while let Some(before) = open.pop() {
            let callee = before.map(|number| block.callees[number].clone());
            let place = Place { source: source.clone(), depth, before: callee };
            let mut follows = Vec::new();
            for (next, p) in self.distribution(place).iter() {
                let number = match next {
                    Some(_) if levels == 0 => continue,
                    Some(callee) => Some(*numbers.entry(callee.clone()).or_insert_with(|| {
                        block.callees.push(callee.clone());
                        block.callees.len() - 1
                    })),
                    None => None,
                };
                follows.push((number, *p));
                if number.is_some() && seen.insert(number) {
                    open.push(number);
                }
            }
            block.follows.insert(before, follows);
        }
    }

    /// A tree as `condition` wants it.
    fn tree(&mut self, condition: &Condition, rng: &mut ChaCha8Rng) -> Result<Tree, Violation> {
        let (model, service) = (self.model, self.service);
        let (levels, kind) = match (condition.depth, condition.num_edges) {
            (Some(depth), _) => (depth - 1, Levels::Exactly),
            (None, edges) => (edges.unwrap_or(MAX_LEVELS).min(MAX_LEVELS) - 1, Levels::AtMost),
        };
        let roots = model.roots(service);
        let sizes = match condition.num_edges {
            Some(edges) => edges as usize - 1..edges as usize,
            None => 0..most_calls(condition) as usize,
        };
        let mut choices = Vec::new();
        for (root, count) in roots.iter() {
            let block = self.block(&root.0, 1, levels);
            let series = block.rest[&None].get(kind);
            for calls in sizes.clone() {
                choices.push(((root, block.clone(), calls), count as f64 * series[calls]));
            }
        }
        let Some((root, block, calls)) = pick(choices, rng) else {
            let detail = "no graph that the training graphs make likely at all is as asked for";
            return Err(Violation::new(ViolationCode::Infeasible, detail));
        };
        let mut tree = Tree::default();
        let index = tree.push(None, root.clone());
        grow(&mut tree, index, &block, calls, kind, rng);
        Ok(tree)
    }
}

impl Block {
    /// How `child`, the calls below it and what follows it can share `calls` calls on as many levels:
    /// calls below it, how many levels those have (and whether one less than they may), what the rest
    /// must have, and the probability.
    fn splits(
        &self,
        child: usize,
        calls: usize,
        kind: Levels,
    ) -> impl Iterator<Item = (usize, (bool, Levels), Levels, f64)> + '_ {
        let (near, far) = &self.below[child];
        let (near, rest) = (&near.rest[&None], &self.rest[&Some(child)]);
        let far = far.as_ref().map(|far| far.rest[&None].get(Levels::AtMost));
        (0..calls).flat_map(move |below| {
            let after = calls - 1 - below;
            let free = near.get(kind)[below] * rest.get(Levels::AtMost)[after];
            let first = (below, (false, kind), Levels::AtMost, free);
            // The child stays below the levels wanted, and what follows it must reach them.
            let later = far.filter(|_| kind == Levels::Exactly).map(|far| {
                let p = far[below] * rest.get(Levels::Exactly)[after];
                (below, (true, Levels::AtMost), Levels::Exactly, p)
            });
            std::iter::once(first).chain(later)
        })
    }
}

/// Adds `calls` calls below the call at `index`.
fn grow(
    tree: &mut Tree,
    index: usize,
    block: &Rc<Block>,
    calls: usize,
    kind: Levels,
    rng: &mut ChaCha8Rng,
) {
    // Calls whose subtrees are still to be grown; a stack, so that depth costs no recursion.
    let mut open = vec![(index, block.clone(), calls, kind)];
    while let Some((parent, block, mut left, mut kind)) = open.pop() {
        let mut before = None;
        while left > 0 {
            let next = block.follows[&before].iter();
            let children = next.filter_map(|(child, p)| child.map(|child| (child, p)));
            let weights = children.map(|(child, p)| (child, p * block.from[child].get(kind)[left]));
            let Some(child) = pick(weights.collect(), rng) else { return };
            let splits = block.splits(child, left, kind);
            let splits =
                splits.map(|(below, levels, rest, p)| ((below, levels, rest), p)).collect();
            let Some((below, (lower, levels), rest)) = pick(splits, rng) else { return };
            let index = tree.push(Some(parent), block.callees[child].clone());
            let (near, far) = &block.below[child];
            let under = if lower { far.as_ref().unwrap_or(near) } else { near };
            open.push((index, under.clone(), below, levels));
            left -= 1 + below;
            kind = rest;
            before = Some(child);
        }
    }
}

/// One of `choices` with probabilities in proportion to their weights.
fn pick<T>(choices: Vec<(T, f64)>, rng: &mut ChaCha8Rng) -> Option<T> {
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut ticket = rng.random::<f64>() * total;
    let mut last = None;
    for (choice, weight) in choices {
        if weight > 0.0 {
            last = Some(choice);
            if ticket < weight {
                break;
            }
            ticket -= weight;
        }
    }
    last
}
