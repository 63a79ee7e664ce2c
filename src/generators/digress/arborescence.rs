//! The maximum spanning arborescence: of all trees from a root, directed away from it, the one whose
//! edges have the highest sum of scores (Chu and Liu, 1965; Edmonds, 1967).

/// Scores of all ordered pairs; `None` where an edge cannot be.
type Scores = Vec<Vec<Option<f64>>>;

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
