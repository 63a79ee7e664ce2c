//! A generator of call graphs that speaks with TraceGym: one JSON object per line, in and out.
//!
//! It counts which calls a microservice makes, by service and depth, and draws from what it has seen.
//! Replace `fit`, `Model::load` and `Model::answer` with your own; the rest can stay. Standard output
//! belongs to the harness: use `eprintln!` instead of `println!`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "@NAME@";

/// What the harness asks. Fields that are not needed are left out here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Describe {},
    Fit { jsonl: PathBuf, model: PathBuf },
    Load { model: PathBuf, settings: Settings },
    Generate { requests: Vec<Wanted> },
}

#[derive(Deserialize)]
struct Settings {
    max_calls: usize,
}

#[derive(Deserialize)]
struct Wanted {
    index: u64,
    seed: u64,
    service: String,
    latency: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Call {
    edge_id: String,
    source: String,
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    start: u32,
    finish: u32,
}

#[derive(Deserialize)]
struct Graph {
    service: String,
    calls: Vec<Call>,
}

/// A call among its siblings: destination, type, and times as shares of the parent's.
#[derive(Clone, Serialize, Deserialize)]
struct Child(String, String, f64, f64);

#[derive(Default, Serialize, Deserialize)]
struct Model {
    /// Destination, type and latency of root calls, by service.
    roots: BTreeMap<String, Vec<(String, String, u32)>>,
    /// The lists of calls that were made, by context.
    lists: BTreeMap<String, Vec<Vec<Child>>>,
    #[serde(skip)]
    max_calls: usize,
}

/// From the most to the least precise.
fn contexts(service: &str, microservice: &str, depth: usize) -> [String; 3] {
    [
        format!("{service}\t{microservice}\t{depth}"),
        format!("{service}\t{microservice}"),
        microservice.to_owned(),
    ]
}

fn depth(edge_id: &str) -> usize {
    edge_id.matches('.').count()
}

/// Learns from the training graphs and writes a model. Returns what tables say of it.
fn fit(jsonl: &Path, out: &Path) -> Result<Value, Box<dyn Error>> {
    let mut model = Model::default();
    for line in BufReader::new(std::fs::File::open(jsonl)?).lines() {
        let Graph { service, calls } = serde_json::from_str(&line?)?;
        let mut children: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in &calls {
            match call.edge_id.rsplit_once('.') {
                Some((parent, _)) => children.entry(parent).or_default().push(call),
                None => {
                    let root = (call.destination.clone(), call.kind.clone(), call.finish);
                    model.roots.entry(service.clone()).or_default().push(root);
                }
            }
        }
        for call in &calls {
            let length = f64::from((call.finish - call.start).max(1));
            let share = |time: u32| f64::from(time - call.start) / length;
            let made = children.get(&*call.edge_id).into_iter().flatten().map(|child| {
                let (start, finish) = (share(child.start), share(child.finish));
                Child(child.destination.clone(), child.kind.clone(), start, finish)
            });
            let made: Vec<Child> = made.collect();
            for context in contexts(&service, &call.destination, depth(&call.edge_id)) {
                model.lists.entry(context).or_default().push(made.clone());
            }
        }
    }
    std::fs::write(out.join("model.json"), serde_json::to_vec(&model)?)?;
    let parameters: usize = model.lists.values().map(Vec::len).sum();
    let contexts = model.lists.len().to_string();
    Ok(json!({ "parameters": parameters, "notes": { "contexts": contexts } }))
}

impl Model {
    fn load(dir: &Path, max_calls: usize) -> Result<Self, Box<dyn Error>> {
        let model: Self = serde_json::from_slice(&std::fs::read(dir.join("model.json"))?)?;
        Ok(Self { max_calls, ..model })
    }

    /// The calls of one graph. All randomness comes from the request's seed, so that the answer does
    /// not depend on what was asked before.
    fn answer(&self, wanted: &Wanted) -> Vec<Call> {
        let Wanted { seed, service, latency, .. } = wanted;
        let mut random = Random(*seed);
        let own = self.roots.get(service).map(|roots| roots.iter().collect::<Vec<_>>());
        let roots = own.unwrap_or_else(|| self.roots.values().flatten().collect());
        let Some((destination, kind, usual)) = random.choose(&roots) else { return Vec::new() };
        let mut calls = vec![Call {
            edge_id: "0".into(),
            source: "USER".into(),
            destination: destination.clone(),
            kind: kind.clone(),
            start: 0,
            finish: latency.unwrap_or(*usual),
        }];
        let mut parent = 0;
        while parent < calls.len() {
            let Call { edge_id, destination: source, start, finish, .. } = &calls[parent];
            let (edge_id, source, start) = (edge_id.clone(), source.clone(), *start);
            let length = f64::from(finish - start);
            let known = contexts(service, &source, depth(&edge_id));
            let lists = known.iter().find_map(|context| self.lists.get(context));
            let list = lists.and_then(|lists| random.choose(lists)).cloned().unwrap_or_default();
            for (number, Child(destination, kind, from, to)) in (1..).zip(list) {
                if calls.len() >= self.max_calls {
                    break;
                }
                let edge_id = format!("{edge_id}.{number}");
                let (from, to) = (start + (from * length) as u32, start + (to * length) as u32);
                let (source, finish) = (source.clone(), to.max(from));
                calls.push(Call { edge_id, source, destination, kind, start: from, finish });
            }
            parent += 1;
        }
        calls
    }
}

/// SplitMix64: small, and good enough to choose from lists.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = (u128::from(self.next()) * items.len() as u128) >> 64;
        items.get(index as usize)
    }
}

fn send(reply: Value) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")?;
    Ok(out.flush()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut model = Model::default();
    for line in std::io::stdin().lines() {
        match serde_json::from_str(&line?)? {
            Request::Describe {} => {
                let version = env!("CARGO_PKG_VERSION");
                send(json!({ "describe": { "protocol": 1, "name": NAME, "version": version } }))?;
            }
            Request::Fit { jsonl, model } => send(json!({ "fit": fit(&jsonl, &model)? }))?,
            Request::Load { model: dir, settings } => {
                model = Model::load(&dir, settings.max_calls)?;
                send(json!({ "load": {} }))?;
            }
            Request::Generate { requests } => {
                for wanted in &requests {
                    let calls = model.answer(wanted);
                    send(json!({ "graph": { "index": wanted.index, "calls": calls } }))?;
                }
            }
        }
    }
    Ok(())
}
