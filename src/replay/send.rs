//! Sending: traces are made when they are due, wait in a queue of bounded length, and are sent by a few
//! threads, several in one request where the backend is slower than the traces come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;
use rand::RngExt;

use super::faults::{Faults, Injected};
use crate::data::spans::{Span, SpanId, TraceAddress, TraceId, otlp_proto, spans};
use crate::error::UserError;
use crate::graph::CallGraph;
use crate::http::{self, Client, Failure, Refused, StatusCode};
use crate::progress::StepProgress;
use crate::random;

/// Traces of one input.
pub enum Traces {
    Graphs(Vec<CallGraph>),
    /// Spans of a trace each; they get other ids, so that they can be sent more than once.
    Spans(Vec<Vec<Span>>),
}

impl Traces {
    pub fn len(&self) -> usize {
        match self {
            Self::Graphs(graphs) => graphs.len(),
            Self::Spans(traces) => traces.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The spans of trace number `index`, which starts at `start`: one input after the other, and again from
/// the beginning if more are asked for than there are.
fn trace(inputs: &[Traces], seed: u64, index: u64, start: u64) -> Vec<Span> {
    let total: usize = inputs.iter().map(Traces::len).sum();
    let mut place = (index % total as u64) as usize;
    for traces in inputs {
        match traces {
            Traces::Graphs(graphs) if place < graphs.len() => {
                return spans(&graphs[place], TraceAddress { seed, index, start });
            }
            Traces::Spans(traces) if place < traces.len() => {
                return renamed(&traces[place], seed, index, start);
            }
            _ => place -= traces.len(),
        }
    }
    Vec::new()
}

/// The same spans with other ids, from `start` on.
fn renamed(spans: &[Span], seed: u64, index: u64, start: u64) -> Vec<Span> {
    let mut rng = random::stream(seed, "replay: ids", &[index]);
    let trace = TraceId(rng.random::<u128>().max(1));
    // Different ids stay different. None may become zero, which means no id.
    let mask = loop {
        let mask: u64 = rng.random();
        if spans.iter().all(|span| span.id.0 != mask && span.parent != Some(SpanId(mask))) {
            break mask;
        }
    };
    // 0 where the source does not say.
    let begin = spans.iter().map(|span| span.start).filter(|start| *start > 0).min();
    let moved = |time: u64| start.saturating_add(time.saturating_sub(begin.unwrap_or_default()));
    let renamed = |span: &Span| Span {
        trace,
        id: SpanId(span.id.0 ^ mask),
        parent: span.parent.map(|parent| SpanId(parent.0 ^ mask)),
        start: moved(span.start),
        end: moved(span.end.max(span.start)),
        ..span.clone()
    };
    spans.iter().map(renamed).collect()
}

/// How traces are sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many.
    pub count: u64,
    /// Traces in a second.
    pub rate: f64,
    /// By which share of the time between two traces it may be shorter or longer.
    pub jitter: f64,
    /// When the first trace ends, nanoseconds since 1970; `None` for now.
    pub start: Option<u64>,
    pub seed: u64,
    pub faults: Faults,
    /// Traces that may wait for being sent.
    pub queue: usize,
    /// Whether traces that find the queue full are left out; otherwise those that follow come later.
    pub drop_when_full: bool,
    /// Requests at once.
    pub connections: usize,
    /// Most traces of one request.
    pub batch: usize,
    /// Attempts at one request, pauses between them doubling from `pause`.
    pub attempts: u32,
    pub pause: Duration,
}

/// What became of the traces.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Traces and spans that were handed to the backend, or should have been.
    pub traces: u64,
    pub spans: u64,
    /// Spans that the backend said it took.
    pub accepted: u64,
    /// Spans that it said it did not take.
    pub rejected: u64,
    /// Spans whose requests were refused, or had no answer, for good.
    pub lost: u64,
    /// Traces that found the queue full and were left out.
    pub dropped: u64,
    /// Requests that were answered, and attempts that failed and were followed by another.
    pub requests: u64,
    pub retries: u64,
    pub injected: Injected,
    /// From the first trace to the last answer.
    pub seconds: f64,
    /// Seconds that a trace was late, at most.
    pub latest: f64,
    /// What the backend said when it first refused something.
    pub complaint: Option<String>,
    pub is_interrupted: bool,
}

/// Where a backend takes traces: the path of OTLP, unless `to` has it.
pub fn address(to: &str) -> String {
    const PATH: &str = "/v1/traces";
    let to = to.trim_end_matches('/');
    if to.ends_with(PATH) { to.to_owned() } else { format!("{to}{PATH}") }
}

/// What a backend answers, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Refusals after which OTLP wants the request to be sent again.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

/// What the threads share.
struct Shared<'a> {
    client: &'a Client,
    options: &'a Options,
    step: &'a StepProgress,
    outcome: Mutex<Outcome>,
    /// Nothing will be accepted, or nobody wants to go on.
    stop: AtomicBool,
}

/// Sends traces and waits for the answers. `interrupted` ends it early.
///
/// # Errors
/// A backend that refuses the first request for good, or does not answer it.
///
/// # Panics
/// If there are no traces.
pub fn replay(
    inputs: &[Traces],
    client: &Client,
    options: &Options,
    interrupted: &AtomicBool,
    step: &StepProgress,
) -> Result<Outcome> {
    assert!(!inputs.iter().all(Traces::is_empty), "traces to send");
    let shared =
        Shared { client, options, step, outcome: Mutex::default(), stop: AtomicBool::new(false) };
    let started = Instant::now();
    let (queue, waiting) = sync_channel(options.queue);
    let waiting = Mutex::new(waiting);
    let made = std::thread::scope(|scope| {
        for _ in 0..options.connections {
            scope.spawn(|| shared.send(&waiting));
        }
        // Dropping the queue's end lets the threads end.
        shared.make(inputs, queue, interrupted)
    });
    made?;
    let mut outcome = shared.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.seconds = started.elapsed().as_secs_f64();
    if outcome.accepted == 0
        && let Some(complaint) = &outcome.complaint
    {
        let message = format!("{}{}: {complaint}", client.url(), client.through());
        return Err(UserError::setting(message).into());
    }
    Ok(outcome)
}

/// Longest sleep without looking whether to stop.
const NAP: Duration = Duration::from_millis(50);

impl Shared<'_> {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes each trace when it is due.
    fn make(
        &self,
        inputs: &[Traces],
        queue: SyncSender<Vec<Span>>,
        interrupted: &AtomicBool,
    ) -> Result<()> {
        let Options { count, rate, jitter, seed, faults, .. } = self.options;
        let begin = match self.options.start {
            Some(start) => start,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                u64::try_from(now.context("the clock stands before 1970")?.as_nanos())?
            }
        };
        let started = Instant::now();
        let mut due = 0.0;
        for index in 0..*count {
            loop {
                if interrupted.load(Ordering::Relaxed) {
                    self.outcome().is_interrupted = true;
                    return Ok(());
                }
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let wait = due - started.elapsed().as_secs_f64();
                if wait <= 0.0 {
                    break;
                }
                std::thread::sleep(Duration::from_secs_f64(wait).min(NAP));
            }
            // A trace is sent when it ends.
            let end = begin.saturating_add((due * 1e9) as u64);
            let mut injected = Injected::default();
            let mut spans = trace(inputs, *seed, index, end);
            faults.slow(&mut spans, *seed, index, &mut injected);
            let last = spans.iter().map(|span| span.end).max().unwrap_or(end);
            let early = last.saturating_sub(end);
            for span in &mut spans {
                span.start = span.start.saturating_sub(early);
                span.end = span.end.saturating_sub(early);
            }
            faults.spoil(&mut spans, *seed, index, &mut injected);
            let late = started.elapsed().as_secs_f64() - due;
            let number = spans.len() as u64;
            let is_sent = if self.options.drop_when_full {
                match queue.try_send(spans) {
                    Ok(()) => true,
                    Err(TrySendError::Full(_)) => false,
                    Err(TrySendError::Disconnected(_)) => return Ok(()),
                }
            } else {
                queue.send(spans).is_ok()
            };
            let mut outcome = self.outcome();
            outcome.latest = outcome.latest.max(late);
            if is_sent {
                outcome.traces += 1;
                outcome.spans += number;
                outcome.injected += injected;
            } else {
                outcome.dropped += 1;
                self.step.inc(1);
            }
            let mut rng = random::stream(*seed, "replay: jitter", &[index]);
            let share = 1.0 + jitter * rng.random_range(-1.0..=1.0);
            due += share / rate;
        }
        Ok(())
    }

    /// Sends what waits, until nothing more comes.
    fn send(&self, waiting: &Mutex<Receiver<Vec<Span>>>) {
        loop {
            let mut traces: Vec<Vec<Span>> = Vec::new();
            {
                let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                match waiting.recv() {
                    Ok(first) => traces.push(first),
                    Err(_) => return,
                }
                let more = || waiting.try_recv().ok();
                traces.extend(std::iter::from_fn(more).take(self.options.batch - 1));
            }
            let number: u64 = traces.iter().map(|spans| spans.len() as u64).sum();
            // Requests that stand one behind the other are one.
            let body: Vec<u8> =
                traces.iter().flat_map(|spans| otlp_proto::request(spans)).collect();
            let answer =
                if self.stop.load(Ordering::Relaxed) { None } else { Some(self.post(&body)) };
            let mut outcome = self.outcome();
            match answer {
                Some(Ok(answer)) => {
                    outcome.requests += 1;
                    let rejected = u64::try_from(answer.rejected_spans).unwrap_or(0).min(number);
                    outcome.rejected += rejected;
                    outcome.accepted += number - rejected;
                    if rejected > 0 && outcome.complaint.is_none() {
                        let said = self.client.quoted(&answer.error_message);
                        outcome.complaint = Some(format!("rejected {rejected} spans: {said}"));
                    }
                }
                Some(Err(Refused { message, attempt, .. })) => {
                    let attempts = self.options.attempts;
                    let complaint = format!("{message} (attempt {attempt} of {attempts})");
                    outcome.complaint.get_or_insert(complaint);
                    outcome.lost += number;
                    // Whatever it is will not get better.
                    if outcome.accepted == 0 {
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
                None => outcome.lost += number,
            }
            self.step.note(&format!("({} spans accepted)", outcome.accepted));
            self.step.inc(traces.len() as u64);
        }
    }

    fn post(&self, body: &[u8]) -> Result<PartialSuccess, Refused> {
        let Options { attempts, pause, .. } = *self.options;
        let attempt = || -> Result<PartialSuccess, Failure> {
            let reply = self.client.post("application/x-protobuf", body, passes)?;
            // Whoever answers something else has still accepted the request.
            Ok(Response::decode(&*reply).unwrap_or_default().partial_success.unwrap_or_default())
        };
        http::retried(attempts, pause, attempt, |_| self.outcome().retries += 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::paper_example;

    #[test]
    fn the_path_of_the_protocol_is_added_where_it_is_missing() {
        for to in ["http://h:1", "http://h:1/", "http://h:1/v1/traces", "http://h:1/v1/traces/"] {
            assert_eq!(address(to), "http://h:1/v1/traces", "{to}");
        }
        assert_eq!(address("https://h/otlp"), "https://h/otlp/v1/traces");
    }

    #[test]
    fn spans_that_are_sent_again_are_other_spans_of_the_same_tree() {
        let original = spans(&paper_example(), TraceAddress { seed: 0, index: 0, start: 500 });
        let inputs = [Traces::Spans(Vec::new()), Traces::Spans(vec![original.clone()])];
        let (one, two) = (trace(&inputs, 0, 0, 2_000), trace(&inputs, 0, 1, 2_000));
        assert_eq!(one, trace(&inputs, 0, 0, 2_000));
        for copy in [&one, &two] {
            assert_eq!(copy.len(), original.len());
            let place = |spans: &[Span], id| spans.iter().position(|span| span.id == id);
            for (span, of) in copy.iter().zip(&original) {
                assert_eq!(span.start - 2_000, of.start - 500);
                assert_eq!(span.end - 2_000, of.end - 500);
                assert_eq!(
                    span.parent.and_then(|id| place(copy, id)),
                    of.parent.and_then(|id| place(&original, id))
                );
                assert_ne!((span.trace, span.id), (of.trace, of.id));
            }
        }
        assert!(one[0].trace != two[0].trace && one[0].id != two[0].id);
    }
}
