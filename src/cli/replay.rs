//! `tracegym replay`: sends traces to a tracing backend.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indexmap::IndexMap;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::output::{rate, time};
use super::{Ending, data};
use crate::data::calls;
use crate::data::spans::{self, Keep, Read, ReadOptions, Span, SpanFormat, TraceId};
use crate::error::UserError;
use crate::graph::{CallGraph, Interner};
use crate::http::{self, Client, Uri, proxy};
use crate::number::grouped;
use crate::progress::Progress;
use crate::replay::{self, Faults, Injected, Options, Outcome, Traces};
use crate::secret::Secret;

/// Arguments of `tracegym replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// What to send: files of spans (OTLP in JSON or protobuf, Jaeger, Zipkin), tables of calls in Parquet
    /// (`generate --format parquet`), or datasets: names in data/, manifest files, or folders that `data build`
    /// wrote.
    #[arg(required = true, value_name = "FILE|DATASET")]
    inputs: Vec<String>,
    /// Where the backend takes OTLP over HTTP, such as http://127.0.0.1:4318.
    #[arg(long, value_name = "URL")]
    to: String,
    /// How many traces are sent in a second.
    #[arg(long, value_name = "N/s", default_value = "100/s", value_parser = rate)]
    rate: f64,
    /// By how much the time between two traces may be shorter or longer.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    jitter: f64,
    /// How many traces are sent; each once if not given. More begin again, with other ids.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Share of the calls that fail.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    errors: f64,
    /// Share of the traces in which a call is slow.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    outliers: f64,
    /// How many times as long a slow call takes.
    #[arg(long, value_name = "TIMES", default_value_t = 10.0, value_parser = factor)]
    outlier_factor: f64,
    /// Share of the spans that are not sent.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    missing: f64,
    /// Share of the services whose clock is off.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    skew: f64,
    /// By how much a clock is off at most.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = duration)]
    skew_by: Duration,
    /// Seed of ids, jitter and faults: another one gives other traces.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// When the first trace ends; now if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<u64>,
    /// How many traces may wait for being sent.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queue: u32,
    /// Leaves out traces that find the queue full, in place of falling behind.
    #[arg(long)]
    drop: bool,
    /// Requests at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Most traces of one request.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Attempts at one request, with pauses that double from a second.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    attempts: u16,
    /// Until a request counts as lost.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// A header of every request whose value is in an environment variable, such as a key.
    #[arg(long, value_name = "NAME=VARIABLE")]
    header_env: Vec<String>,
    /// Folder that holds the traces of datasets, as of `data build`.
    #[arg(long, value_name = "DIR", env = "TRACEGYM_DATA")]
    data: Option<PathBuf>,
    /// Says nothing but errors and what became of the traces.
    #[arg(long, short)]
    quiet: bool,
}

/// Largest answer that is read, bytes.
const MAX_REPLY: u64 = 1 << 20;
/// By how much of a file its format is told.
const HEAD_BYTES: u64 = 1 << 20;
/// First pause between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs `tracegym replay`.
pub fn run(args: &ReplayArgs) -> Result<Ending> {
    let progress = Progress::detect(args.quiet);
    let client = client(args)?;
    let traces = traces(args, progress)?;
    let count = args.count.unwrap_or(traces.iter().map(Traces::len).sum::<usize>() as u64);
    let options = Options {
        count,
        rate: args.rate,
        jitter: args.jitter,
        start: args.start,
        seed: args.seed,
        faults: Faults {
            errors: args.errors,
            outliers: args.outliers,
            outlier_factor: args.outlier_factor,
            missing: args.missing,
            skewed: args.skew,
            skew: u64::try_from(args.skew_by.as_nanos()).unwrap_or(u64::MAX),
        },
        queue: args.queue as usize,
        drop_when_full: args.drop,
        connections: args.connections.into(),
        batch: args.batch.into(),
        attempts: args.attempts.into(),
        pause: PAUSE,
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second one ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())
            .and_then(|_| signal_hook::flag::register(signal, interrupted.clone()))
            .context("signals cannot be handled")?;
    }
    let step = progress.step("replaying", "traces", count);
    let outcome = replay::replay(&traces, &client, &options, &interrupted, &step)?;
    step.finish();
    tell(&outcome, args);
    Ok(if outcome.is_interrupted {
        Ending::Interrupted
    } else if outcome.lost + outcome.rejected + outcome.dropped > 0 {
        Ending::Failed
    } else {
        Ending::Done
    })
}

fn client(args: &ReplayArgs) -> Result<Client> {
    let wrong = |message: String| UserError::setting(format!("--to {}: {message}", args.to));
    let uri: Option<Uri> = args.to.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_owned();
    let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
    if host.is_empty() || !["http", "https"].contains(&scheme) || args.to.contains(['@', '?', '#'])
    {
        let message = "must be http://HOST:PORT or https://HOST, with a path at most; a key goes into a header (--header-env)";
        return Err(wrong(message.to_owned()).into());
    }
    if scheme == "http" && !args.header_env.is_empty() && !proxy::is_here(&host) {
        return Err(
            wrong("would send the header of --header-env unencrypted; use https".into()).into()
        );
    }
    let mut headers = Vec::new();
    for given in &args.header_env {
        let wrong = |message| UserError::setting(format!("--header-env {given}: {message}"));
        let Some((name, variable)) = given.split_once('=') else {
            return Err(wrong("must be NAME=VARIABLE".to_owned()).into());
        };
        let value = std::env::var(variable).ok().filter(|value| !value.trim().is_empty());
        let Some(value) = value else {
            let message = format!("the environment variable {variable} is not set");
            return Err(wrong(message).into());
        };
        headers.push((name.to_owned(), Secret::new(value.trim())));
    }
    let settings = http::Settings {
        url: replay::address(&args.to),
        secrets: headers.iter().map(|(_, value)| value.clone()).collect(),
        headers,
        timeout: args.timeout,
        max_reply: MAX_REPLY,
    };
    Client::new(settings, |name| std::env::var(name).ok())
}

/// What the inputs hold: a list for each.
fn traces(args: &ReplayArgs, progress: Progress) -> Result<Vec<Traces>> {
    let mut traces = Vec::new();
    for input in &args.inputs {
        let path = Path::new(input);
        if let Some(format) = span_format(path)? {
            traces.push(Traces::Spans(spans_of(path, format)?));
            continue;
        }
        let mut graphs = Vec::new();
        let is_named = path.extension().is_some_and(|extension| extension == "parquet");
        if is_named || calls::is_parquet(path) {
            for group in calls::from_frame(path, &calls::read(path)?)? {
                let graph = CallGraph::from_rows(group.service, &group.rows);
                graphs.push(graph.map_err(|violations| {
                    let place = format!("graph {}", group.graph);
                    UserError::input(path, place, violations[0].to_string())
                })?);
            }
        } else {
            let dataset = data::dataset(input, args.data.as_deref(), None, progress)?;
            graphs.extend(dataset.graphs().iter().cloned());
        }
        traces.push(Traces::Graphs(graphs));
    }
    if traces.iter().all(Traces::is_empty) {
        let message = format!("{}: there is no trace in it", args.inputs.join(", "));
        return Err(UserError::setting(message).into());
    }
    Ok(traces)
}

/// The format of spans that a file has; `None` for one whose name says that it holds none.
fn span_format(path: &Path) -> Result<Option<SpanFormat>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "jsonl") => {}
        Some("pb" | "binpb") => return Ok(Some(SpanFormat::OtlpProto)),
        _ => return Ok(None),
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.map_err(|error| UserError::io(path, "cannot be read", error))?;
    let format = spans::format_of_text(path, &head)?;
    let unknown = || {
        let message = "is neither OTLP, nor Jaeger's, nor Zipkin's JSON";
        UserError::input(path, "content", message).into()
    };
    format.map(Some).ok_or_else(unknown)
}

/// The traces of a file of spans, in the order of their first spans.
fn spans_of(path: &Path, format: SpanFormat) -> Result<Vec<Vec<Span>>> {
    let options = ReadOptions { format, keep: Keep::All, skip_bad: false };
    let mut traces: IndexMap<TraceId, Vec<Span>> = IndexMap::new();
    spans::read(path, options, &mut Interner::default(), &mut |read| {
        if let Read::Span(span) = read {
            traces.entry(span.trace).or_default().push(span);
        }
    })?;
    Ok(traces.into_values().collect())
}

/// What became of the traces, on standard output.
fn tell(outcome: &Outcome, args: &ReplayArgs) {
    let count = |number: u64| grouped(number, ",");
    let Outcome { traces, spans, accepted, rejected, lost, dropped, .. } = outcome;
    let reached = *traces as f64 / outcome.seconds.max(1e-3);
    println!(
        "sent {} traces with {} spans in {} requests: {reached:.1} traces/s of {} asked for, {:.2} s late at most",
        count(*traces),
        count(*spans),
        count(outcome.requests),
        args.rate,
        outcome.latest,
    );
    println!(
        "accepted {} spans, rejected {}, lost {}; {} attempts failed and were made again, {} traces found the queue full",
        count(*accepted),
        count(*rejected),
        count(*lost),
        count(outcome.retries),
        count(*dropped)
    );
    let Injected { errors, outliers, missing, skewed } = outcome.injected;
    if outcome.injected != Injected::default() {
        println!(
            "injected {} errors, {} slow calls, {} missing spans, {} spans by a wrong clock",
            count(errors),
            count(outliers),
            count(missing),
            count(skewed)
        );
    }
    if let Some(complaint) = &outcome.complaint {
        println!("the backend said: {complaint}");
    }
}

/// A share: `1%` or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / unit);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a share from 0 to 1, such as 0.01 or 1%".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| (1.0..=1e6).contains(factor));
    factor.ok_or_else(|| "must be a number from 1 to 1000000".to_owned())
}

/// A time span: `200us`, `50ms`, `2s` or `1min`.
fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0)];
    let read = UNITS.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * seconds)
    });
    let seconds = read.filter(|seconds| (1e-6..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a time of at most a day, such as 200us, 50ms or 2s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_read_or_refused() {
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["", "101%", "-1%", "nan", "one"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "0ms", "-1s", "2d", "ms"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(factor("0.5").is_err() && factor("inf").is_err());
    }
}
