//! Drawing: from noise to a graph, step by step, and from that graph to calls.

use rand_chacha::ChaCha8Rng;

use super::diffusion::{
    EDGE_TYPES, NO_CALL, Noise, State, USER_NODE, draw_weighted, possible, posterior,
};
use super::host::Network;
use super::network::{Batch, Wish};
use crate::graph::{Violation, ViolationCode};
use crate::model::Sampling;

/// How the last step becomes a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// As drawn, pair by pair.
    #[default]
    Sampled,
    /// The tree that the last step's probabilities make most likely.
    Arborescence,
}

/// A graph drawn from pure noise.
pub fn draw(
    network: &Network,
    noise: &Noise,
    wish: &Wish,
    decode: Decode,
    sampling: Sampling,
    rng: &mut ChaCha8Rng,
) -> State {
    let mut state = pure_noise(noise, wish.calls, rng);
    for step in (1..=noise.schedule.steps()).rev() {
        let mut batch = Batch::default();
        batch.push(&network.shape, &state, wish, step);
        let (nodes, pairs) = network.logits(&batch);
        let types = network.shape.types;
        // The user's row comes first.
        for (noisy, logits) in state.types.iter_mut().zip(nodes.chunks_exact(types).skip(1)) {
            let mut weights = probabilities(logits, sampling);
            posterior(noise.schedule, step, noise.destinations, *noisy, &mut weights);
            *noisy = draw_weighted(&weights, rng);
        }
        match decode {
            Decode::Arborescence if step == 1 => best_tree(&mut state, noise, &pairs, rng),
            _ => denoise_pairs(&mut state, noise, &pairs, step, rng),
        }
    }
    state
}

fn pure_noise(noise: &Noise, calls: usize, rng: &mut ChaCha8Rng) -> State {
    let mut state = State::empty((0..calls).map(|_| noise.destinations.draw(rng)).collect());
    let marginal = noise.pairs(calls);
    for (parent, child) in possible_pairs(&state, noise) {
        state.set(parent, child, marginal.draw(rng));
    }
    state
}

fn possible_pairs(state: &State, noise: &Noise) -> Vec<(usize, usize)> {
    let nodes = state.nodes();
    let all = (0..nodes).flat_map(|parent| (0..nodes).map(move |child| (parent, child)));
    all.filter(|(parent, child)| possible(*parent, *child, noise.ordered)).collect()
}

/// The logits of one pair among those of all.
fn of_pair(logits: &[f32], nodes: usize, parent: usize, child: usize) -> &[f32] {
    &logits[(parent * nodes + child) * EDGE_TYPES..][..EDGE_TYPES]
}

/// How pairs are drawn, whatever is asked for: a lower temperature would take calls away wherever
/// several callers are likely.
const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: None };

fn denoise_pairs(
    state: &mut State,
    noise: &Noise,
    logits: &[f32],
    step: usize,
    rng: &mut ChaCha8Rng,
) {
    let nodes = state.nodes();
    let marginal = noise.pairs(nodes - 1);
    for (parent, child) in possible_pairs(state, noise) {
        let mut weights = probabilities(of_pair(logits, nodes, parent, child), PLAIN);
        posterior(noise.schedule, step, &marginal, state.edge(parent, child), &mut weights);
        state.set(parent, child, draw_weighted(&weights, rng));
    }
}

/// Probabilities below this count as this: logarithms stay finite.
const TINY: f64 = 1e-30;

/// Replaces all edges by those of the tree with one call of the user that is most likely if pairs are
/// independent; the type of each of its calls is drawn.
fn best_tree(state: &mut State, noise: &Noise, logits: &[f32], rng: &mut ChaCha8Rng) {
    let nodes = state.nodes();
    let odds = |parent: usize, child: usize| {
        let shares = probabilities(of_pair(logits, nodes, parent, child), PLAIN);
        let call: f64 = shares[NO_CALL + 1..].iter().sum();
        call.max(TINY).ln() - shares[NO_CALL].max(TINY).ln()
    };
    let score = |parent, child| possible(parent, child, noise.ordered).then(|| odds(parent, child));
    // The user can call any node, and the first node every later one: there always is a tree.
    let parents = maximum_arborescence(nodes, score).unwrap_or_else(|| vec![USER_NODE; nodes]);
    *state = State::empty(std::mem::take(&mut state.types));
    for (child, parent) in parents.into_iter().enumerate().skip(1) {
        let kinds = &of_pair(logits, nodes, parent, child)[NO_CALL + 1..];
        let kind = draw_weighted(&probabilities(kinds, PLAIN), rng);
        state.set(parent, child, NO_CALL + 1 + kind);
    }
}

/// softmax(logits / temperature) of the `top_k` highest; all on the first of the highest at
/// temperature 0.
fn probabilities(logits: &[f32], Sampling { temperature, top_k }: Sampling) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if temperature <= 0.0 {
        let first = logits.iter().position(|logit| *logit == highest);
        return (0..logits.len()).map(|index| f64::from(u8::from(Some(index) == first))).collect();
    }
    let least = match top_k.map(|k| k.max(1) as usize) {
        Some(k) if k < logits.len() => {
            let mut sorted = logits.to_vec();
            *sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
        }
        _ => f32::NEG_INFINITY,
    };
    let weight = |logit: &f32| {
        if *logit >= least { (f64::from(logit - highest) / temperature).exp() } else { 0.0 }
    };
    let weights: Vec<f64> = logits.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Why a drawn graph is no tree of calls, if it is none; the first reason found.
pub fn violation(state: &State) -> Option<Violation> {
    let roots = (1..state.nodes()).filter(|node| state.edge(USER_NODE, *node) != NO_CALL).count();
    match roots {
        0 => return Some(Violation::new(ViolationCode::NoRoot, "the user makes no call")),
        1 => {}
        _ => {
            let detail = format!("the user makes {roots} calls");
            return Some(Violation::new(ViolationCode::SecondRoot, detail));
        }
    }
    for node in 1..state.nodes() {
        let parents = state.parents(node).count();
        let detail = format!("call {node} has {parents} callers");
        match parents {
            0 => return Some(Violation::new(ViolationCode::MissingParent, detail)),
            1 => {}
            _ => return Some(Violation::new(ViolationCode::DuplicateEdgeId, detail)),
        }
    }
    let reached = state.reached().len();
    let calls = state.nodes() - 1;
    (reached < calls).then(|| {
        let detail = format!("{} of {calls} calls are made in a circle", calls - reached);
        Violation::new(ViolationCode::MissingParent, detail)
    })
}

/// Scores of all ordered pairs; `None` where an edge cannot be.
type Scores = Vec<Vec<Option<f64>>>;

/// The maximum spanning arborescence: of all trees from a root, directed away from it, the one whose
/// edges have the highest sum of scores (Chu and Liu, 1965; Edmonds, 1967).
///
/// Parent of each node in the best arborescence from node 0, by node; the root's is itself. The root
/// has exactly one child. `score(parent, child)` is asked for distinct nodes and children other
/// than the root; `None` is no edge. `None` if there is no such arborescence.
pub fn maximum_arborescence(
    nodes: usize,
    score: impl Fn(usize, usize) -> Option<f64>,
) -> Option<Vec<usize>> {
    let mut scores: Scores = vec![vec![None; nodes]; nodes];
    let mut span = (f64::INFINITY, f64::NEG_INFINITY);
    for (parent, row) in scores.iter_mut().enumerate() {
        for (child, place) in row.iter_mut().enumerate().skip(1) {
            if parent != child {
                *place = score(parent, child);
            }
            if let Some(score) = place {
                span = (span.0.min(*score), span.1.max(*score));
            }
        }
    }
    // A second child of the root costs more than any other choice could bring.
    let price = (span.1 - span.0 + 1.0) * nodes as f64;
    scores[0].iter_mut().flatten().for_each(|score| *score -= price);
    let parents = edmonds(&scores)?;
    let children = (1..nodes).filter(|child| parents[*child] == 0).count();
    (children == 1 || nodes == 1).then_some(parents)
}

/// The same without a limit on the root's children.
fn edmonds(scores: &Scores) -> Option<Vec<usize>> {
    let nodes = scores.len();
    let mut parents = vec![0; nodes];
    let all: Vec<usize> = (0..nodes).collect();
    for (child, place) in parents.iter_mut().enumerate().skip(1) {
        let (parent, score) = highest(&all, |parent| scores[parent][child]);
        score?;
        *place = parent;
    }
    let Some(cycle) = cycle(&parents) else { return Some(parents) };
    // The cycle becomes one node, the last; an edge into it costs the edge of the cycle it replaces.
    let outside: Vec<usize> = (0..nodes).filter(|node| !cycle.contains(node)).collect();
    let merged = outside.len();
    let mut smaller: Scores = vec![vec![None; merged + 1]; merged + 1];
    // Where in the cycle an edge from outside enters, and from where in it one leaves.
    let (mut enters, mut leaves) = (vec![0; merged], vec![0; merged]);
    for (index, &node) in outside.iter().enumerate() {
        for (other, &to) in outside.iter().enumerate() {
            smaller[index][other] = scores[node][to];
        }
        let gain = |member: usize| {
            Some(scores[node][member]? - scores[parents[member]][member].unwrap_or(0.0))
        };
        let (entry, value) = highest(&cycle, gain);
        (enters[index], smaller[index][merged]) = (entry, value);
        let (exit, value) = highest(&cycle, |member| scores[member][node]);
        (leaves[index], smaller[merged][index]) = (exit, value);
    }
    let found = edmonds(&smaller)?;
    for (index, &node) in outside.iter().enumerate().skip(1) {
        parents[node] = match found[index] {
            parent if parent == merged => leaves[index],
            parent => outside[parent],
        };
    }
    let entered = found[merged];
    parents[enters[entered]] = outside[entered];
    Some(parents)
}

/// The first of `members` with the highest value, and that value; any with `None` if all are.
fn highest(members: &[usize], value: impl Fn(usize) -> Option<f64>) -> (usize, Option<f64>) {
    let mut found = (members[0], None);
    for &member in members {
        if let Some(value) = value(member)
            && found.1.is_none_or(|best| value > best)
        {
            found = (member, Some(value));
        }
    }
    found
}

/// Nodes of a cycle that following the parents runs into, if any; the root ends every path.
fn cycle(parents: &[usize]) -> Option<Vec<usize>> {
    // Start of the path that reached a node first; the root belongs to none.
    let mut reached = vec![0; parents.len()];
    for start in 1..parents.len() {
        let mut node = start;
        while node != 0 && reached[node] == 0 {
            reached[node] = start;
            node = parents[node];
        }
        if node != 0 && reached[node] == start {
            let mut cycle = vec![node];
            let mut next = parents[node];
            while next != node {
                cycle.push(next);
                next = parents[next];
            }
            return Some(cycle);
        }
    }
    None
}
