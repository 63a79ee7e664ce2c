use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::random;

const VOCABULARY: usize = 13;
const CONTEXT: usize = 24;
const STOP: u32 = 0;

/// A stand-in whose logits are a hash of the whole sequence, so that any mix-up of slots shows.
#[derive(Default)]
struct HashModel {
    sequences: Vec<Vec<u32>>,
    most_feeds: usize,
}

impl CachedModel for HashModel {
    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn extend(&mut self, _: usize) {}

    fn prepare(&mut self, slots: usize) {
        self.sequences = vec![Vec::new(); slots];
    }

    fn reset(&mut self, slot: usize) {
        self.sequences[slot].clear();
    }

    fn forward(&mut self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.most_feeds = self.most_feeds.max(feeds.len());
        logits.clear();
        for feed in feeds {
            assert!(!feed.tokens.is_empty());
            let sequence = &mut self.sequences[feed.slot];
            sequence.extend_from_slice(feed.tokens);
            // The last drawn token is never fed, so one token of the context stays free.
            assert!(sequence.len() < CONTEXT);
            let path: Vec<u64> = sequence.iter().map(|&token| token.into()).collect();
            let mut rng = random::stream(0, "logits", &path);
            logits.extend((0..VOCABULARY).map(|_| rand::RngExt::random_range(&mut rng, 0.0..3.0)));
        }
        Ok(())
    }
}

/// Id, length and limit of a prompt.
type Spec = (u64, usize, usize);

fn prompt((id, length, max_new_tokens): Spec) -> Prompt {
    let rng = random::stream(7, "prompt", &[id]);
    let tokens = (0..length).map(|i| (id as u32 + i as u32) % VOCABULARY as u32).collect();
    Prompt { id, tokens, rng, max_new_tokens, constraint: None }
}

/// Gives prompts in order; each completion of a prompt below `children` releases another one.
struct Queue {
    waiting: VecDeque<Prompt>,
    children: u64,
    done: Vec<Completion>,
}

impl PromptSource for Queue {
    fn next(&mut self) -> Option<Prompt> {
        self.waiting.pop_front()
    }

    fn complete(&mut self, completion: Completion) {
        if completion.id < self.children {
            self.waiting.push_back(prompt((completion.id + 1_000, 3, 9)));
        }
        self.done.push(completion);
    }
}

fn run(prompts: &[Spec], children: u64, temperature: f64, batch: usize) -> Vec<Completion> {
    let mut model = HashModel::default();
    let waiting = prompts.iter().copied().map(prompt).collect();
    let mut queue = Queue { waiting, children, done: Vec::new() };
    let sampling = Sampling { temperature, top_k: None };
    decode(&mut model, &mut queue, &[STOP], sampling, batch).expect("decodes");
    assert!(model.most_feeds <= batch);
    queue.done.sort_by_key(|completion| completion.id);
    queue.done
}

proptest! {
    #[test]
    fn every_prompt_completes_once_whatever_the_batch_and_the_order(
        lengths in prop::collection::vec((0..30usize, 0..20usize), 0..20),
        batch in 1..9usize,
        rotation in 0..20usize,
        temperature in prop_oneof![Just(0.0), Just(1.0)],
    ) {
        let mut prompts: Vec<Spec> = lengths
            .iter()
            .enumerate()
            .map(|(id, &(length, limit))| (id as u64, length, limit))
            .collect();
        let children = prompts.len().min(4) as u64;
        let alone = run(&prompts, children, temperature, 1);
        let mut ids: Vec<u64> = (0..prompts.len() as u64).collect();
        ids.extend((0..children).map(|id| id + 1_000));
        prop_assert_eq!(alone.iter().map(|completion| completion.id).collect::<Vec<_>>(), ids);
        if !prompts.is_empty() {
            let count = prompts.len();
            prompts.rotate_left(rotation % count);
        }
        prop_assert_eq!(run(&prompts, children, temperature, batch), alone);
    }
}

#[test]
fn limits_hold() {
    let prompts = [
        (0, 0, 5),
        (1, CONTEXT, 5),
        (2, CONTEXT + 1, 5),
        (3, 4, 0),
        (4, CONTEXT - 1, 100),
        (5, CONTEXT - 3, 100),
        (6, 1, 2),
    ];
    for completion in run(&prompts, 0, 1.0, 3) {
        let most = [0, 0, 0, 0, 1, 3, 2][completion.id as usize];
        if completion.stopped {
            assert!(completion.tokens.len() < most, "{completion:?}");
        } else {
            assert_eq!(completion.tokens.len(), most, "{completion:?}");
        }
        assert!(!completion.tokens.contains(&STOP));
    }
}

#[test]
fn a_sequence_that_stops_says_so() {
    let prompts: Vec<Spec> = (0..50).map(|id| (id, 2, CONTEXT)).collect();
    let done = run(&prompts, 0, 1.0, 8);
    assert!(done.iter().any(|completion| completion.stopped));
    assert!(done.iter().any(|completion| !completion.stopped));
    let full = CONTEXT - 2;
    assert!(done.iter().all(|completion| completion.stopped == (completion.tokens.len() < full)));
}

#[test]
fn an_empty_batch_is_refused() {
    let mut queue = Queue { waiting: VecDeque::new(), children: 0, done: Vec::new() };
    let sampling = Sampling { temperature: 0.0, top_k: None };
    let error = decode(&mut HashModel::default(), &mut queue, &[STOP], sampling, 0).unwrap_err();
    assert!(error.to_string().contains("batch"), "{error}");
}

/// Permits multiples of 3 or 4 in turn, and 7, 8, 9 in the places 4, 5 and 6; ends after ten tokens.
struct Turns(usize);

impl Constraint for Turns {
    fn permitted(&mut self, tokens: &mut Vec<u32>) {
        tokens.clear();
        match self.0 {
            place @ 4..=6 => tokens.push(place as u32 + 3),
            10 => tokens.push(STOP),
            place => tokens.extend([3, 6, 9].map(|token| token + place as u32 % 2)),
        }
    }

    fn push(&mut self, token: u32) {
        let mut permitted = Vec::new();
        self.permitted(&mut permitted);
        assert!(permitted.contains(&token));
        self.0 += 1;
    }
}

#[test]
fn constraints_hold_and_what_they_force_costs_no_choice() {
    let constrained = |batch: usize, temperature: f64| {
        let prompt = |id| {
            let constraint: Box<dyn Constraint> = Box::new(Turns(0));
            Prompt { constraint: Some(constraint), ..prompt((id, 3 + id as usize % 4, 99)) }
        };
        let waiting = (0..20).map(prompt).collect();
        let mut queue = Queue { waiting, children: 0, done: Vec::new() };
        let sampling = Sampling { temperature, top_k: Some(2) };
        decode(&mut HashModel::default(), &mut queue, &[STOP], sampling, batch).expect("decodes");
        queue.done.sort_by_key(|completion| completion.id);
        queue.done
    };
    for temperature in [0.0, 1.0] {
        let alone = constrained(1, temperature);
        for completion in &alone {
            assert!(completion.stopped && completion.tokens.len() == 10);
            assert_eq!(completion.tokens[4..7], [7, 8, 9]);
            assert_eq!(completion.cost.choices, 7);
            let prompt = 3 + completion.id % 4;
            // The last token has nothing behind it to ask for.
            assert_eq!(completion.cost.tokens, prompt + 9);
            let mass = completion.cost.allowed_mass / 7.0;
            assert!(0.05 < mass && mass < 0.6, "{mass}");
        }
        assert_eq!(constrained(7, temperature), alone);
    }
}
