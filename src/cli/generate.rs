//! `tracegym generate`: graphs from a trained generator.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use rand::{Rng, RngExt};

use super::model::ModelArgs;
use super::output::{Graphs, OutputArgs};
use super::{Ending, data};
use crate::device::DeviceChoice;
use crate::error::UserError;
use crate::generators::{self, Decoding, GenerateOptions, Generator};
use crate::graph::{Condition, ViolationCode, condition_of, is_feasible, judge_all};
use crate::model::Sampling;
use crate::number::grouped;
use crate::progress::{Progress, StepProgress};
use crate::run::Model;
use crate::{display, process, random, run};

/// Arguments of `tracegym generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The service that is asked for.
    #[arg(long, value_name = "NAME", required_unless_present = "like")]
    service: Option<String>,
    /// Number of calls.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    edges: Option<u32>,
    /// Calls on the longest path from the root.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,
    /// Milliseconds until the root call ends.
    #[arg(long, value_name = "MS")]
    latency: Option<u32>,
    /// Asks for what graphs of a dataset are like, drawn at random: a name in data/, a manifest file, or a
    /// folder that `data build` wrote. --service, --edges and --depth then choose among the graphs.
    #[arg(long, value_name = "DATASET", conflicts_with = "latency")]
    like: Option<String>,
    /// How many graphs are asked for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Permits only what can still become a valid graph as asked for.
    #[arg(long, conflicts_with = "attempts")]
    constrained: bool,
    /// Draws again, up to N times, until a graph is valid and as asked for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: Option<u32>,
    /// How freely a network draws; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Only the N most likely tokens are drawn from; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 50)]
    top_k: u32,
    #[command(flatten)]
    output: OutputArgs,
    /// Device for neural networks: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Graphs generated at once; does not change results.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Says nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Requests that are answered together. The first few are soon written; later there are so many that
/// little time is lost while the last ones of a part are finished.
const FIRST_PART: usize = 64;
const LARGEST_PART: usize = 4_096;

/// What is asked for.
enum Requests {
    Same(Condition),
    /// Drawn from these.
    Like(Vec<Condition>),
}

impl Requests {
    fn get(&self, seed: u64, number: u32) -> Condition {
        match self {
            Self::Same(condition) => condition.clone(),
            Self::Like(conditions) => {
                let mut rng = random::stream(seed, "requests like graphs", &[number.into()]);
                conditions[rng.random_range(0..conditions.len())].clone()
            }
        }
    }
}

/// What became of the requests.
#[derive(Default)]
struct Tally {
    accurate: u64,
    /// Valid, and not of the size that was asked for.
    other: u64,
    invalid: BTreeMap<ViolationCode, u64>,
}

/// Runs `tracegym generate`.
pub fn run(args: &GenerateArgs) -> Result<Ending> {
    args.output.check(args.count.into())?;
    let progress = Progress::detect(args.quiet);
    let requests = requests(args, progress)?;
    let model = args.model.find()?;
    let decoding = decoding(args, &model)?;
    for warning in model.warnings() {
        progress.say(&format!("note: {}", display::line(&warning)));
    }
    if let Some(service) = &args.service
        && let Some(hint) = model.unknown_service(service)
    {
        let service = display::name(service);
        progress.say(&format!("note: no training graph is of the service `{service}`{hint}"));
    }
    // A generator in another language is a program of ours while we run.
    process::adopt_orphans();
    process::end_when_asked()?;
    let generator = model.load(args.device)?;
    let options = GenerateOptions {
        seed: args.seed,
        sampling: Sampling {
            temperature: args.temperature,
            top_k: Some(args.top_k).filter(|k| *k > 0),
        },
        decoding,
        batch: args.batch.into(),
        progress: Progress::Quiet,
    };
    let step = progress.step("generating", "graphs", args.count.into());
    let started = Instant::now();
    let mut tally = Tally::default();
    let written = args.output.write(args.seed, |graphs| {
        generate(&*generator, &requests, args.count, &options, graphs, &step, &mut tally)?;
        // Then there is nothing to write.
        if tally.accurate + tally.other == 0 {
            let message = "no answer is a valid graph: try --constrained or --attempts, or a generator that was trained longer";
            return Err(UserError::setting(message).into());
        }
        Ok(())
    });
    step.finish();
    process::end();
    let rate = f64::from(args.count) / started.elapsed().as_secs_f64().max(1e-3);
    progress.say(&tally.told(&model, rate));
    written.map(|()| Ending::Done)
}

/// Asks for graphs part by part and writes each part when it is there. Parts have fixed sizes and seeds of
/// their own, so that a graph's number and the seed decide what it is.
fn generate(
    generator: &dyn Generator,
    requests: &Requests,
    count: u32,
    options: &GenerateOptions,
    graphs: &mut Graphs,
    step: &StepProgress,
    tally: &mut Tally,
) -> Result<()> {
    let (mut first, mut size) = (0, FIRST_PART as u32);
    for part in 0u64.. {
        if first == count {
            break;
        }
        let end = count.min(first.saturating_add(size));
        let conditions: Vec<Condition> =
            (first..end).map(|number| requests.get(options.seed, number)).collect();
        let seed = match part {
            0 => options.seed,
            _ => random::stream(options.seed, "part", &[part]).next_u64(),
        };
        let options = GenerateOptions { seed, ..*options };
        let answers = run::answer(generator, &conditions, &options)?;
        for (number, verdict) in (first..).zip(judge_all(&conditions, &answers)?) {
            match (verdict.graph, verdict.violation) {
                (Some(graph), violation) => {
                    graphs.write(number, &graph)?;
                    *match violation {
                        None => &mut tally.accurate,
                        Some(_) => &mut tally.other,
                    } += 1;
                }
                (None, Some(violation)) => *tally.invalid.entry(violation).or_default() += 1,
                (None, None) => {}
            }
        }
        step.inc((end - first).into());
        (first, size) = (end, (2 * size).min(LARGEST_PART as u32));
    }
    Ok(())
}

fn requests(args: &GenerateArgs, progress: Progress) -> Result<Requests> {
    let GenerateArgs { service, edges, depth, latency, .. } = args;
    if let Some(edges) = edges
        && let Some(depth) = depth
        && !is_feasible(*edges, *depth)
    {
        let message = format!(
            "--edges {edges} --depth {depth}: no graph is so; the depth is at most the number of calls, and 1 only for a single call"
        );
        return Err(UserError::setting(message).into());
    }
    let Some(like) = &args.like else {
        let service = service.as_deref().unwrap_or_default().into();
        let (num_edges, depth, latency) = (*edges, *depth, *latency);
        let requests = Vec::new();
        return Ok(Requests::Same(Condition { service, num_edges, depth, latency, requests }));
    };
    let dataset = data::dataset(like, args.model.data.as_deref(), None, progress)?;
    let is_meant = |condition: &Condition| {
        service.as_ref().is_none_or(|service| *condition.service == **service)
            && (edges.is_none() || condition.num_edges == *edges)
            && (depth.is_none() || condition.depth == *depth)
    };
    let conditions = dataset.graphs().iter().map(condition_of).filter(is_meant);
    let conditions: Vec<Condition> = conditions.collect();
    if conditions.is_empty() {
        let message = format!(
            "--like {like}: no graph of it is as --service, --edges and --depth say: leave one of them out"
        );
        return Err(UserError::setting(message).into());
    }
    Ok(Requests::Like(conditions))
}

fn decoding(args: &GenerateArgs, model: &Model) -> Result<Decoding> {
    let generator = &model.card.generator;
    if args.constrained && !generators::takes_constraints(generator) {
        let message = format!(
            "--constrained: generator `{generator}` cannot be held to a request while it draws; --attempts N draws again"
        );
        return Err(UserError::setting(message).into());
    }
    Ok(match args.attempts {
        Some(attempts) => Decoding::Rejection { attempts },
        None if args.constrained => Decoding::Constrained,
        None => model.card.decoding,
    })
}

impl Tally {
    /// One line about all of it.
    fn told(&self, model: &Model, rate: f64) -> String {
        let Self { accurate, other, invalid } = self;
        let card = &model.card;
        let count = |number: u64| grouped(number, ",");
        let mut line = format!(
            "{} (profile {}, seed {}): {} graphs as asked for",
            display::name(&card.name),
            card.profile,
            card.seed,
            count(*accurate)
        );
        if *other > 0 {
            line += &format!(", {} valid and of another size", count(*other));
        }
        if !invalid.is_empty() {
            let total = invalid.values().sum();
            let reasons: Vec<String> = invalid
                .iter()
                .map(|(code, number)| format!("{code}: {}", count(*number)))
                .collect();
            line += &format!(", {} left out as invalid ({})", count(total), reasons.join(", "));
        }
        line + &format!("; {rate:.1} graphs/s")
    }
}
