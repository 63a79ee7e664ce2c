//! Whether an external generator conforms to the protocol: what `tracegym baseline check` tells its author.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::process::Process;
use super::{Program, describe};
use crate::data::simulator::{Cloud, SimulatorConfig};
use crate::data::{Dataset, DatasetCard, Side};
use crate::device::DeviceChoice;
use crate::generators::{Decoding, FitContext, GenerateOptions, Generator, Recipe};
use crate::graph::{CallGraph, Condition, Generated, condition_of, judge_all};
use crate::model::Sampling;
use crate::progress::Progress;

/// One thing that was tried.
#[derive(Debug)]
pub struct Finding {
    pub what: &'static str,
    /// What was found, or what is wrong.
    pub outcome: Result<String>,
}

/// Graphs to learn from.
const GRAPHS: u64 = 300;
/// Requests of the simulated graphs that follow.
const REQUESTS: u64 = 80;

/// Tries everything that the harness will ask for, on a small simulated dataset, and tells each finding
/// as it comes. Ends with the first thing that is wrong; returns whether none is.
pub fn check(program: &Program, found: &mut dyn FnMut(Finding)) -> bool {
    let mut trial = || -> Result<bool> {
        let dirs = Dirs { model: tempfile::tempdir()?, scratch: tempfile::tempdir()? };
        let trial = Trial { program, dirs, requests: requests()? };
        let steps: [Step; 6] = [
            ("is ready to run", Trial::ready),
            ("describes itself, and ends when its input does", Trial::describes),
            ("learns from 300 simulated graphs", Trial::fits),
            ("loads its model in a new process and answers every kind of request", Trial::answers),
            ("gives the same answers again, and alone", Trial::repeats),
            ("withstands a second training over its old files", Trial::fits),
        ];
        for (what, step) in steps {
            let outcome = step(&trial);
            let failed = outcome.is_err();
            found(Finding { what, outcome });
            if failed {
                return Ok(false);
            }
        }
        Ok(true)
    };
    trial().unwrap_or_else(|error| {
        found(Finding { what: "temporary folders", outcome: Err(error) });
        false
    })
}

/// What is tried, and how.
type Step<'a> = (&'static str, fn(&Trial<'a>) -> Result<String>);

struct Dirs {
    model: tempfile::TempDir,
    scratch: tempfile::TempDir,
}

struct Trial<'a> {
    program: &'a Program,
    dirs: Dirs,
    requests: Vec<Condition>,
}

fn cloud() -> Result<Cloud> {
    Cloud::new(&SimulatorConfig { services: 12, ..SimulatorConfig::default() })
}

/// Requests as experiments make them, and what they rarely make: half requests, a service with an odd
/// name that training lacks, one that no graph answers.
fn requests() -> Result<Vec<Condition>> {
    let cloud = cloud()?;
    let graphs = (GRAPHS..GRAPHS + REQUESTS).map(|index| cloud.graph(1, index));
    let mut requests: Vec<Condition> = graphs.map(|graph| condition_of(&graph)).collect();
    let one = requests[0].clone();
    requests.extend([
        Condition { num_edges: None, ..one.clone() },
        Condition { depth: None, latency: None, ..one.clone() },
        Condition { num_edges: None, depth: None, latency: None, ..one.clone() },
        Condition { service: "S_new/\"odd\" näme".into(), ..one.clone() },
        Condition { num_edges: Some(3), depth: Some(5), ..one.clone() },
        Condition { num_edges: Some(200), depth: Some(20), latency: Some(0), ..one },
    ]);
    Ok(requests)
}

impl Trial<'_> {
    fn ready(&self) -> Result<String> {
        self.program.make_ready()?;
        Ok(match self.program.build.len() {
            0 => "nothing to build".to_owned(),
            1 => "1 build command".to_owned(),
            count => format!("{count} build commands"),
        })
    }

    fn describes(&self) -> Result<String> {
        let mut process = Process::start(self.program)?;
        let description = describe(&mut process, self.program.limits)?;
        ensure!(!description.version.trim().is_empty(), "its `version` is empty");
        process.finish()?;
        Ok(format!("{} {}", description.name, description.version))
    }

    fn fits(&self) -> Result<String> {
        let cloud = cloud()?;
        let graphs: Vec<CallGraph> = (0..GRAPHS).map(|index| cloud.graph(1, index)).collect();
        let sides = vec![Side::Train; graphs.len()];
        let dataset = Dataset::new(DatasetCard::default(), graphs, sides);
        let report = self.program.fit(&FitContext {
            dataset: &dataset,
            seed: 1,
            device: DeviceChoice::Cpu,
            base: None,
            out: self.dirs.model.path(),
            scratch: self.dirs.scratch.path(),
            progress: Progress::Quiet,
        })?;
        Ok(format!("{} parameters", report.parameters))
    }

    fn load(&self) -> Result<Box<dyn Generator>> {
        self.program.load(self.dirs.model.path(), None, DeviceChoice::Cpu)
    }

    fn answers(&self) -> Result<String> {
        let started = std::time::Instant::now();
        let answers = generate(&*self.load()?, &self.requests)?;
        let seconds = started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let verdicts = judge_all(&self.requests, &answers)?;
        let valid = verdicts.iter().filter(|verdict| verdict.graph.is_some()).count();
        let accurate = verdicts.iter().filter(|verdict| verdict.violation.is_none()).count();
        let all = answers.len();
        let first = verdicts.iter().zip(&answers).find(|(verdict, _)| verdict.graph.is_none());
        let why = first.map_or_else(String::new, |(_, answer)| match &answer.failure {
            Some(failure) => format!("; the first without a graph: {failure}"),
            None => match CallGraph::from_rows("S".into(), &answer.rows) {
                Err(violations) => violations
                    .first()
                    .map_or_else(String::new, |v| format!("; the first that is not valid: {v}")),
                Ok(_) => String::new(),
            },
        });
        // The protocol permits it, but then there is nothing to measure.
        ensure!(valid > 0, "not one of {all} answers is a valid graph{why}");
        Ok(format!(
            "{all} answers, {valid} valid graphs, {accurate} as requested, {:.0} per second{why}",
            all as f64 / seconds
        ))
    }

    fn repeats(&self) -> Result<String> {
        let first = generate(&*self.load()?, &self.requests)?;
        let again = self.load()?;
        let second = generate(&*again, &self.requests)?;
        let compare = |what: &str, a: &[Generated], b: &[Generated]| -> Result<()> {
            let differ = a.iter().zip(b).position(|(a, b)| a != b);
            match differ {
                None => Ok(()),
                Some(index) => anyhow::bail!(
                    "request {index} gets another answer {what}: take all randomness from the request's `seed`, and keep nothing from one request to the next"
                ),
            }
        };
        compare("in a second process", &first, &second)?;
        // The same process, after other requests, in smaller batches.
        let fewer = generate(&*again, &self.requests[..7])?;
        compare("among fewer requests", &first, &fewer)?;
        // What counts its answers, modulo a divisor of all of them, has not been noticed yet.
        let third = generate(&*again, &self.requests)?;
        compare("after other requests", &first, &third)?;
        Ok("twice".to_owned())
    }
}

fn generate(generator: &dyn Generator, requests: &[Condition]) -> Result<Vec<Generated>> {
    generator.generate(
        requests,
        &GenerateOptions {
            seed: 7,
            sampling: Sampling { temperature: 0.8, top_k: Some(50) },
            decoding: Decoding::Free,
            batch: 1,
            progress: Progress::Quiet,
        },
    )
}
