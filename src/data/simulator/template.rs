//! How the templates of a cloud are made from its seed.

use std::collections::BTreeSet;

use rand::{Rng, RngExt};

use super::chance::{Repeats, Time, WeightedTable, happens, uniform};
use super::config::SimulatorConfig;
use crate::graph::{CallType, Name};
use crate::random;

/// What a microservice is for. Its number is also its place in [`ROLE_SHARES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Entry,
    Business,
    Cache,
    Database,
    Queue,
}

/// Role and share of all microservices.
const ROLE_SHARES: [(Role, f64); 5] = [
    (Role::Entry, 0.25),
    (Role::Business, 0.45),
    (Role::Cache, 0.13),
    (Role::Database, 0.14),
    (Role::Queue, 0.03),
];

/// A microservice and how fast it is.
#[derive(Clone, Debug)]
pub(super) struct Microservice {
    pub name: Name,
    /// Response time of a call to it that makes no further calls.
    pub alone: Time,
    /// Time it adds to that of the calls it makes.
    pub own: Time,
    /// The cache, database and services that it usually calls.
    usual_cache: usize,
    usual_database: usize,
    usual_services: [usize; 3],
}

/// A call that a service's template may make.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub parent: Option<usize>,
    /// 1 for the root.
    pub depth: u32,
    pub destination: usize,
    pub kind: CallType,
    /// Probability that the call is made when its parent is, by variant.
    pub presence: Vec<f64>,
    pub repeats: Repeats,
    /// In the order in which they are called.
    pub children: Vec<usize>,
}

/// Everything that a service does: a tree of slots (the root first, parents before children) and
/// the variants of its requests.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub slots: Vec<Slot>,
    pub variants: WeightedTable,
    /// Share of slow requests, the slot that is slow then, and how slow.
    pub slow_share: f64,
    pub slow_slot: usize,
    pub slow_time: Time,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Single,
    Flat,
    Layered,
    Deep,
    Large,
    Batch,
    Branching,
}

impl Shape {
    const ALL: [Self; 7] = [
        Self::Single,
        Self::Flat,
        Self::Layered,
        Self::Deep,
        Self::Large,
        Self::Batch,
        Self::Branching,
    ];

    /// Depth of the template, before the configured maximum.
    fn depth(self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Single | Self::Flat => 2,
            Self::Layered => 3,
            Self::Deep => 4,
            Self::Large => rng.random_range(4..=6),
            Self::Batch => 2 + u32::from(happens(rng, 0.2)),
            Self::Branching => rng.random_range(3..=5),
        }
    }

    /// Number of leaf calls of a node.
    fn leaves(self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Single | Self::Layered | Self::Deep => 1 + u32::from(happens(rng, 0.45)),
            Self::Flat | Self::Large | Self::Batch | Self::Branching => rng.random_range(1..=3),
        }
    }

    /// Whether one of its layers makes a call in a loop.
    fn is_looped(self) -> bool {
        matches!(self, Self::Large | Self::Batch | Self::Branching)
    }
}

/// Where the first subtree stands among the calls of its layer. In the traces a call that makes calls
/// is nearly always the first of its siblings or the last.
fn place_of_spine(siblings: usize, rng: &mut impl Rng) -> usize {
    let place = rng.random::<f64>();
    if place < 0.55 {
        0
    } else if place < 0.95 {
        siblings
    } else {
        rng.random_range(0..=siblings)
    }
}

/// How often a slot's call is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    Always,
    Optional,
    Rare,
}

/// What a call of a template leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BranchKind {
    Leaf,
    /// A leaf that is called in a loop.
    Looped,
    Subtree,
    RareLeaf,
}

pub(super) struct Blueprint {
    pub service_names: Vec<Name>,
    pub popularity: WeightedTable,
    pub microservices: Vec<Microservice>,
    pub templates: Vec<Template>,
}

/// Makes a cloud from its seed.
pub(super) fn blueprint(config: &SimulatorConfig) -> Blueprint {
    let popularity = WeightedTable::zipf(config.services as usize, config.service_zipf);
    let maker = Maker::new(config);
    let templates = maker.plan(&popularity).into_iter().enumerate();
    let templates = templates.map(|(service, plan)| maker.template(service as u64, plan)).collect();
    let mut rng = random::stream(config.seed, "simulator.services", &[]);
    let numbers = distinct(&mut rng, config.services as usize, 200_000_000);
    let service_names =
        numbers.iter().map(|number| Name::from(format!("S_{number:09}").as_str())).collect();
    Blueprint { service_names, popularity, microservices: maker.microservices, templates }
}

/// `count` distinct numbers from 1 to `below`, in random order.
fn distinct(rng: &mut impl Rng, count: usize, below: u32) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let number = rng.random_range(1..below);
        if seen.insert(number) {
            numbers.push(number);
        }
    }
    numbers
}

/// A group of microservices of one role: those from `first`, chosen by Zipf's law.
struct Pool {
    first: usize,
    table: WeightedTable,
}

impl Pool {
    fn pick(&self, rng: &mut impl Rng) -> usize {
        self.first + self.table.pick(rng)
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    shape: Shape,
    long_running: bool,
}

struct Maker<'a> {
    config: &'a SimulatorConfig,
    pools: Vec<Pool>,
    microservices: Vec<Microservice>,
    leaf_types: WeightedTable,
}

impl<'a> Maker<'a> {
    fn new(config: &'a SimulatorConfig) -> Self {
        let total = config.microservices as usize;
        let mut pools = Vec::new();
        let mut first = 0;
        for (index, (_, share)) in ROLE_SHARES.iter().enumerate() {
            let last = index + 1 == ROLE_SHARES.len();
            let left = total - first;
            let roles_left = ROLE_SHARES.len() - index - 1;
            let wanted = ((total as f64 * share) as usize).max(2).min(left - 2 * roles_left);
            let len = if last { left } else { wanted };
            pools.push(Pool { first, table: WeightedTable::zipf(len, config.microservice_zipf) });
            first += len;
        }
        let leaf_types = WeightedTable::new(config.leaf_types.all().map(|(_, weight)| weight));
        let mut maker = Self { config, pools, microservices: Vec::new(), leaf_types };
        maker.microservices = maker.make_microservices();
        maker
    }

    fn pool(&self, role: Role) -> &Pool {
        &self.pools[role as usize]
    }

    fn make_microservices(&self) -> Vec<Microservice> {
        let mut rng = random::stream(self.config.seed, "simulator.microservices", &[]);
        let numbers = distinct(&mut rng, self.config.microservices as usize, 100_000);
        let roles = ROLE_SHARES.iter().zip(&self.pools);
        let roles =
            roles.flat_map(|((role, _), pool)| std::iter::repeat_n(*role, pool.table.len()));
        numbers
            .iter()
            .zip(roles)
            .map(|(number, role)| {
                let rng = &mut rng;
                let (median, eighths) = match role {
                    Role::Entry => (4.5, 5),
                    Role::Business => (1.1, 4),
                    Role::Cache => (0.9, 2),
                    Role::Database => (0.95, 3),
                    Role::Queue => (0.7, 3),
                };
                let alone = Time::new(median * uniform(rng, 0.6, 1.5), eighths);
                let own_median = if role == Role::Entry { 3.3 } else { 0.9 };
                let own = Time::new(own_median * uniform(rng, 0.6, 1.5), 4);
                Microservice {
                    name: Name::from(format!("MS_{number:05}").as_str()),
                    alone,
                    own,
                    usual_cache: self.pool(Role::Cache).pick(rng),
                    usual_database: self.pool(Role::Database).pick(rng),
                    usual_services: std::array::from_fn(|_| self.pool(Role::Business).pick(rng)),
                }
            })
            .collect()
    }

    /// Gives each service its shape. The most popular service has so large a share that chance
    /// would decide what the whole cloud looks like; so each service, by popularity, takes the
    /// shape that is furthest behind its share.
    fn plan(&self, popularity: &WeightedTable) -> Vec<Plan> {
        let weights = self.config.shapes.all().map(|(_, weight)| weight);
        let total: f64 = weights.iter().sum();
        let mut due = weights.map(|weight| weight / total);
        let mut due_long = self.config.long_running;
        (0..popularity.len())
            .map(|service| {
                let share = popularity.probability(service);
                let mut best = 0;
                for (index, left) in due.iter().enumerate() {
                    if *left > due[best] {
                        best = index;
                    }
                }
                due[best] -= share;
                let long_running = share < 1.2 * due_long;
                if long_running {
                    due_long -= share;
                }
                Plan { shape: Shape::ALL[best], long_running }
            })
            .collect()
    }

    fn template(&self, service: u64, plan: Plan) -> Template {
        let mut rng = random::stream(self.config.seed, "simulator.template", &[service]);
        let rng = &mut rng;
        let variants = variants(plan.shape, rng);
        let root = Slot {
            parent: None,
            depth: 1,
            destination: self.pool(Role::Entry).pick(rng),
            kind: if happens(rng, 0.02) { CallType::Rpc } else { CallType::Http },
            presence: vec![1.0; variants.len()],
            repeats: Repeats::once(),
            children: Vec::new(),
        };
        let depth = plan.shape.depth(rng).min(self.config.max_depth);
        let mut growth = Growth::new(self, plan.shape, depth, root, &variants, rng);
        growth.grow(0, depth, true, rng);
        let mut slots = growth.slots;
        shrink(&mut slots, self.config.max_edges);
        let (slow_share, slow_time) = if plan.long_running {
            (0.5, Time::new(uniform(rng, 800.0, 6_000.0), 3))
        } else {
            let share = (self.config.slow * uniform(rng, 0.5, 1.5)).min(1.0);
            (share, Time::new(uniform(rng, 8.0, 30.0), 4))
        };
        Template {
            slow_slot: rng.random_range(0..slots.len()),
            variants: variants.table,
            slots,
            slow_share,
            slow_time,
        }
    }

    fn rare_branches(&self, rng: &mut impl Rng) -> u32 {
        let rare = self.config.rare_calls;
        rare as u32 + u32::from(happens(rng, rare.fract()))
    }

    fn leaf_type(&self, rng: &mut impl Rng) -> CallType {
        [CallType::Mc, CallType::Rpc, CallType::Db, CallType::Http, CallType::Mq]
            [self.leaf_types.pick(rng)]
    }

    fn destination(&self, caller: usize, kind: CallType, rare: bool, rng: &mut impl Rng) -> usize {
        let usual = !rare && happens(rng, 0.7);
        let known = &self.microservices[caller];
        match kind {
            CallType::Mc if usual => known.usual_cache,
            CallType::Mc => self.pool(Role::Cache).pick(rng),
            CallType::Db if usual => known.usual_database,
            CallType::Db => self.pool(Role::Database).pick(rng),
            CallType::Mq => self.pool(Role::Queue).pick(rng),
            // Calls to oneself are genuine in the traces: one instance asks another.
            CallType::Rpc if happens(rng, 0.08) => caller,
            CallType::Rpc | CallType::Http if usual => {
                known.usual_services[rng.random_range(0..known.usual_services.len())]
            }
            CallType::Rpc | CallType::Http => self.pool(Role::Business).pick(rng),
        }
    }
}

/// A template's tree while it grows. Layers are known by the depth of their calls.
struct Growth<'a> {
    maker: &'a Maker<'a>,
    shape: Shape,
    /// The layer in which several calls make calls.
    fork: Option<u32>,
    /// The layer on the spine in which a call is made in a loop.
    looped: Option<u32>,
    variants: &'a Variants,
    slots: Vec<Slot>,
}

impl<'a> Growth<'a> {
    /// For a template of this depth.
    fn new(
        maker: &'a Maker,
        shape: Shape,
        depth: u32,
        root: Slot,
        variants: &'a Variants,
        rng: &mut impl Rng,
    ) -> Self {
        // A call of the last layer makes no calls.
        let forks = shape == Shape::Branching && depth > 2;
        let fork = forks.then(|| rng.random_range(2..depth));
        let looped = (shape.is_looped() && depth >= 2)
            .then(|| if happens(rng, 0.85) { 2 } else { rng.random_range(2..=depth) });
        Self { maker, shape, fork, looped, variants, slots: vec![root] }
    }

    /// Adds the calls that the slot at `parent` makes, so that the subtree reaches depth `reach`.
    /// `spine` says whether the parent is on the path that reaches the template's full depth.
    fn grow(&mut self, parent: usize, reach: u32, spine: bool, rng: &mut impl Rng) {
        let depth = self.slots[parent].depth + 1;
        if depth > reach {
            return;
        }
        let mut branches = vec![BranchKind::Leaf; self.shape.leaves(rng) as usize];
        if spine && self.looped == Some(depth) {
            branches[0] = BranchKind::Looped;
        }
        branches.extend(vec![BranchKind::RareLeaf; self.maker.rare_branches(rng) as usize]);
        for last in (1..branches.len()).rev() {
            branches.swap(last, rng.random_range(0..=last));
        }
        for subtree in 0..self.subtrees(depth, reach, rng) {
            let place = match subtree {
                0 => place_of_spine(branches.len(), rng),
                _ => rng.random_range(0..=branches.len()),
            };
            branches.insert(place, BranchKind::Subtree);
        }
        // The first subtree reaches the full depth, the others any.
        let mut deepest = true;
        for branch in branches {
            let index = self.slots.len();
            let slot = self.slot(parent, branch, rng);
            self.slots[parent].children.push(index);
            self.slots.push(slot);
            if branch == BranchKind::Subtree {
                let (reach, spine) = if std::mem::take(&mut deepest) {
                    (reach, spine)
                } else {
                    (rng.random_range(depth + 1..=reach), false)
                };
                self.grow(index, reach, spine, rng);
            }
        }
    }

    /// Number of calls in the layer at `depth` that make calls themselves.
    fn subtrees(&self, depth: u32, reach: u32, rng: &mut impl Rng) -> u32 {
        match self.fork {
            _ if depth >= reach => 0,
            Some(fork) if fork == depth => 2 + u32::from(happens(rng, 0.2)),
            _ => 1,
        }
    }

    fn slot(&self, parent: usize, branch: BranchKind, rng: &mut impl Rng) -> Slot {
        let config = self.maker.config;
        let caller = &self.slots[parent];
        let subtree = branch == BranchKind::Subtree;
        let kind = if subtree { CallType::Rpc } else { self.maker.leaf_type(rng) };
        let rare = branch == BranchKind::RareLeaf;
        let repeats = if branch == BranchKind::Looped {
            Repeats::geometric(uniform(rng, 0.8, 0.89), config.max_edges)
        } else if !subtree && happens(rng, config.repeated) {
            Repeats::geometric(uniform(rng, 0.2, 0.55), 6)
        } else {
            Repeats::once()
        };
        let habit = if rare || self.shape == Shape::Single {
            Habit::Rare
        } else if branch != BranchKind::Looped && happens(rng, config.optional) {
            Habit::Optional
        } else {
            Habit::Always
        };
        Slot {
            parent: Some(parent),
            depth: caller.depth + 1,
            destination: self.maker.destination(caller.destination, kind, rare, rng),
            kind,
            presence: self.variants.presence(habit, rng),
            repeats,
            children: Vec::new(),
        }
    }
}

/// Kinds of requests that one service gets. A variant is drawn per request and decides about all
/// of its optional calls, so that calls far apart in a graph depend on each other.
struct Variants {
    table: WeightedTable,
    /// The variant whose requests end at the root (refused, or answered from memory).
    early_exit: Option<usize>,
    /// The variant in which rare calls are likely.
    unusual: Option<usize>,
}

fn variants(shape: Shape, rng: &mut impl Rng) -> Variants {
    let mut weights = vec![1.0];
    if happens(rng, 0.5) {
        weights.push(uniform(rng, 0.2, 0.8));
    }
    let mut unusual = None;
    if happens(rng, 0.4) {
        unusual = Some(weights.len());
        weights.push(uniform(rng, 0.03, 0.08));
    }
    let mut early_exit = None;
    if shape != Shape::Single && happens(rng, 0.6) {
        early_exit = Some(weights.len());
        weights.push(uniform(rng, 0.15, 0.6));
    }
    Variants { table: WeightedTable::new(weights), early_exit, unusual }
}

impl Variants {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn presence(&self, habit: Habit, rng: &mut impl Rng) -> Vec<f64> {
        let usually = match habit {
            Habit::Always => 1.0,
            Habit::Optional => uniform(rng, 0.15, 0.85),
            Habit::Rare => uniform(rng, 0.02, 0.09),
        };
        (0..self.len())
            .map(|variant| {
                let changed = happens(rng, 0.35);
                let other = uniform(rng, 0.0, 1.0);
                if Some(variant) == self.early_exit {
                    0.0
                } else if Some(variant) == self.unusual && habit == Habit::Rare {
                    0.3 + 0.5 * other
                } else if variant == 0 || !changed || habit == Habit::Rare {
                    usually
                } else if other < 0.5 {
                    0.0
                } else {
                    other
                }
            })
            .collect()
    }
}

/// Lowers repeats, and then drops calls, until no graph can have more than `max_edges` calls.
fn shrink(slots: &mut Vec<Slot>, max_edges: u32) {
    loop {
        let sizes = max_sizes(slots);
        if sizes[0] <= u64::from(max_edges) {
            return;
        }
        let repeated = (0..slots.len()).filter(|&slot| slots[slot].repeats.max() > 1);
        let largest = repeated.max_by_key(|&slot| (sizes[slot], std::cmp::Reverse(slot)));
        match largest {
            Some(slot) => {
                let repeats = &mut slots[slot].repeats;
                *repeats = repeats.truncated(repeats.max() * 3 / 4);
            }
            None => drop_last(slots),
        }
    }
}

/// The largest number of calls that each slot can stand for, repeats included.
fn max_sizes(slots: &[Slot]) -> Vec<u64> {
    let mut sizes = vec![0; slots.len()];
    for (index, slot) in slots.iter().enumerate().rev() {
        let below: u64 = slot.children.iter().map(|&child| sizes[child]).sum();
        sizes[index] = (1 + below) * u64::from(slot.repeats.max());
    }
    sizes
}

/// The last slot is a leaf: parents stand before their children.
fn drop_last(slots: &mut Vec<Slot>) {
    if let Some(Slot { parent: Some(parent), .. }) = slots.pop() {
        slots[parent].children.pop();
    }
}
