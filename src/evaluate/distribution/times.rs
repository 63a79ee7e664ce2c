//! When calls start, how long they take, and how many are open at once.

use super::degrees::response_times;
use super::histogram::{Drawn, Histograms};
use super::pair::{Pair, Side};
use super::{Measured, Metric, Part};
use crate::evaluate::WHOLE;
use crate::graph::{Call, CallGraph, CallType};

/// Kolmogorov-Smirnov distance of the response times of calls to one microservice by one type, in
/// test graphs and in valid synthetic graphs: mean over all pairs (microservice, type) with at
/// least [`ENOUGH`] calls on both sides, weighted by the real calls. Range 0 to 1, lower is better;
/// bootstrap interval over services. NaN if no pair has enough calls.
///
/// Pitfall: pairs without enough synthetic calls are left out, so a generator that knows few
/// microservices is judged by these; [`RESPONSE_TIME_COVERAGE`] says how much was looked at.
pub const RESPONSE_TIME_KS: &Metric =
    &Metric::plain("response-time-ks/2", "Kolmogorov-Smirnov distance of response times")
        .lower()
        .bootstrap()
        .of_samples();

/// Earth mover's distance of the response times of calls to one microservice by one type, over the
/// same pairs and with the same weights as [`RESPONSE_TIME_KS`], as a share of their mean response
/// time: how much time has to be moved for each millisecond that calls take. Range 0 to infinity,
/// lower is better; bootstrap interval over services.
///
/// Pitfall: sums of times, so calls that take long decide.
pub const RESPONSE_TIME_EMD: &Metric = &Metric::plain(
    "response-time-emd/2",
    "earth mover's distance of response times by microservice",
)
.lower()
.bootstrap()
.of_samples();

/// Share of the real calls that [`RESPONSE_TIME_KS`] looks at: those to a microservice by a type
/// that have at least [`ENOUGH`] calls on both sides. Range 0 to 1, higher is better; bootstrap
/// interval over services.
pub const RESPONSE_TIME_COVERAGE: &Metric =
    &Metric::plain("response-time-coverage/2", "real calls whose response times are compared")
        .higher()
        .bootstrap()
        .of_samples();

/// Calls on each side that a distribution of its own takes.
pub const ENOUGH: f64 = 20.0;

/// Kolmogorov-Smirnov distance of when calls start within their parent: time from the parent's
/// start to the call's, as a share of the parent's response time, to a thousandth. Calls whose
/// parent takes less than a millisecond are left out. Test graphs against valid synthetic graphs;
/// range 0 to 1, lower is better; bootstrap interval over services.
pub const START_OFFSET_KS: &Metric =
    &Metric::plain("start-offset-ks/2", "Kolmogorov-Smirnov distance of start offsets")
        .lower()
        .bootstrap()
        .of_samples();

/// Kolmogorov-Smirnov distance of concurrency: the most calls of a graph that are open at once. A
/// call is open from its start until just before its finish, one that takes less than a millisecond
/// at its start; a call that waits for its children is open as well, so a chain of depth d counts
/// d. Test graphs against valid synthetic graphs; range 0 to 1, lower is better; bootstrap interval
/// over services.
///
/// Pitfall: times are whole milliseconds, so short calls one after the other look concurrent.
pub const CONCURRENCY_KS: &Metric =
    &Metric::plain("concurrency-ks/2", "Kolmogorov-Smirnov distance of concurrency")
        .lower()
        .bootstrap()
        .of_samples();

/// Quantile of valid synthetic graphs over that of test graphs: `of=latency` (of graphs) or
/// `of=response-time` (of calls), `quantile=p50`, `p90`, `p99` and `p99.9`; the smallest value that
/// so many do not exceed. Range 0 to infinity, 1 is best; bootstrap interval over services. NaN
/// where the real quantile is 0, or a side has too few values to have one (1,000 for p99.9).
///
/// Pitfall: two graphs more in the tail of a small sample move p99.9 by a multiple; read the
/// interval.
pub const QUANTILE_RATIO: &Metric =
    &Metric::plain("quantile-ratio/2", "quantile, synthetic over real")
        .as_real()
        .bootstrap()
        .of_samples();

pub const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Steps of a start offset.
const STEPS: u64 = 1_000;

/// Distributions of times.
pub struct Times {
    by_microservice: Histograms,
    offsets: Histograms,
    concurrency: Histograms,
    latencies: Histograms,
    response_times: Histograms,
    graphs: u64,
}

impl Times {
    pub fn new(pair: &Pair) -> Self {
        let of = |values: fn(&Side) -> Vec<(u32, u32)>| Histograms::new(pair.sides().map(values));
        Self {
            by_microservice: Histograms::grouped(pair.sides().map(by_microservice)),
            offsets: of(|side| of_graphs(side, start_offsets)),
            concurrency: of(|side| of_graphs(side, |graph| vec![concurrency(graph)])),
            latencies: of(|side| of_graphs(side, |graph| vec![graph.latency()])),
            response_times: of(response_times),
            graphs: pair.synthetic.graphs.len() as u64,
        }
    }
}

impl Part for Times {
    fn metrics(&self) -> Vec<Measured> {
        let whole = [
            RESPONSE_TIME_KS,
            RESPONSE_TIME_EMD,
            RESPONSE_TIME_COVERAGE,
            START_OFFSET_KS,
            CONCURRENCY_KS,
        ];
        let mut metrics: Vec<Measured> =
            whole.iter().map(|metric| Measured::new(metric, WHOLE, self.graphs)).collect();
        for of in ["latency", "response-time"] {
            metrics.extend(QUANTILES.iter().map(|(name, _)| {
                Measured::new(QUANTILE_RATIO, WHOLE.of(of).quantile(*name), self.graphs)
            }));
        }
        metrics
    }

    fn values(&self, drawn: &[u32]) -> Vec<f64> {
        let mut values = of_microservices(&self.by_microservice.drawn(drawn)).to_vec();
        for histograms in [&self.offsets, &self.concurrency] {
            values.push(histograms.drawn(drawn).all().kolmogorov_smirnov());
        }
        for histograms in [&self.latencies, &self.response_times] {
            let drawn = histograms.drawn(drawn);
            values.extend(QUANTILES.iter().map(|(_, q)| {
                let [real, synthetic] = drawn.all().quantiles(*q);
                if real == 0.0 { f64::NAN } else { synthetic / real }
            }));
        }
        values
    }
}

/// Mean Kolmogorov-Smirnov distance, time to be moved by time taken, and coverage.
fn of_microservices(drawn: &Drawn) -> [f64; 3] {
    let (mut calls, mut looked_at) = (0.0, 0.0);
    let (mut distance, mut moved, mut taken) = (0.0, 0.0, 0.0);
    for bins in drawn.groups() {
        let [real, synthetic] = bins.totals();
        calls += real;
        if real < ENOUGH || synthetic < ENOUGH {
            continue;
        }
        looked_at += real;
        distance += real * bins.kolmogorov_smirnov();
        moved += real * bins.earth_movers();
        taken += real * bins.real_mean();
    }
    let synthetic: f64 = drawn.all().totals()[1];
    let coverage = if synthetic == 0.0 { f64::NAN } else { looked_at / calls };
    [distance / looked_at, moved / taken, coverage]
}

/// Response time of each call, by the number of microservice and type.
fn by_microservice(side: &Side) -> Vec<(u32, (u32, u32))> {
    side.collect(|graph| {
        let calls = side.graphs[graph].calls();
        side.calls_of(graph).map(move |call| {
            let kind = calls[call.index].kind as u32;
            let group = call.destination * CallType::ALL.len() as u32 + kind;
            (call.service, (group, calls[call.index].response_time()))
        })
    })
}

/// A few numbers of each graph, with its service.
fn of_graphs(side: &Side, values: fn(&CallGraph) -> Vec<u32>) -> Vec<(u32, u32)> {
    side.collect(|graph| {
        let values = values(side.graphs[graph]);
        values.into_iter().map(move |value| (side.services[graph], value))
    })
}

/// Where in their parent calls start, in thousandths.
fn start_offsets(graph: &CallGraph) -> Vec<u32> {
    let offsets = graph.calls().iter().filter_map(|call| {
        let parent = &graph.calls()[call.parent? as usize];
        let offset = u64::from(call.start - parent.start);
        let time = u64::from(parent.response_time());
        (time > 0).then(|| ((offset * STEPS + time / 2) / time) as u32)
    });
    offsets.collect()
}

/// The most calls that are open at once.
pub fn concurrency(graph: &CallGraph) -> u32 {
    let calls = graph.calls();
    let mut starts: Vec<u32> = calls.iter().map(|call| call.start).collect();
    starts.sort_unstable();
    // A call shorter than a millisecond is open at its start, and closed in the next one.
    let finish = |call: &Call| u64::from(call.finish).max(u64::from(call.start) + 1);
    let mut finishes: Vec<u64> = calls.iter().map(finish).collect();
    finishes.sort_unstable();
    let (mut closed, mut most) = (0, 0);
    for (opened, start) in (1..).zip(starts) {
        while finishes.get(closed).is_some_and(|finish| *finish <= u64::from(start)) {
            closed += 1;
        }
        most = most.max(opened - closed);
    }
    most as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{chain, flat};
    use crate::testing::{paper_example, row};

    fn values(real: &[&CallGraph], synthetic: &[&CallGraph]) -> Vec<f64> {
        let pair = Pair::new(real, synthetic);
        Times::new(&pair).values(&vec![1; pair.services])
    }

    #[test]
    fn times_of_the_papers_example() {
        let example = paper_example();
        // Calls 0.1 and 0.1.1 are open with the root; later calls follow one another.
        assert_eq!(concurrency(&example), 3);
        assert_eq!(start_offsets(&example), [0, 0, 333, 375, 500, 625]);
        assert_eq!(concurrency(&chain("S_1", 5, 3)), 5);
        assert_eq!(concurrency(&flat("S_1", 5, 0)), 5);
        let apart = [
            row("0", "USER", "a", "http", 0, 4),
            row("0.1", "a", "b", "rpc", 0, 2),
            row("0.2", "a", "b", "rpc", 2, 2),
            row("0.3", "a", "b", "rpc", 3, 4),
        ];
        assert_eq!(concurrency(&CallGraph::from_rows("S_1".into(), &apart).unwrap()), 2);
        // The last millisecond has none behind it.
        let last = [row("0", "USER", "a", "http", u32::MAX, u32::MAX)];
        assert_eq!(concurrency(&CallGraph::from_rows("S_1".into(), &last).unwrap()), 1);
    }

    /// Graphs of one call.
    fn roots(to: &str, time: u32, count: usize) -> Vec<CallGraph> {
        let rows = [row("0", "USER", to, "http", 0, time)];
        vec![CallGraph::from_rows("S_1".into(), &rows).expect("valid"); count]
    }

    #[test]
    fn pairs_count_by_their_real_calls() {
        let real = [roots("a", 10, 20), roots("b", 20, 60), roots("c", 5, 20)].concat();
        let synthetic =
            [roots("a", 15, 20), roots("b", 20, 10), roots("b", 40, 10), roots("c", 9, 19)]
                .concat();
        let found = values(&real.iter().collect::<Vec<_>>(), &synthetic.iter().collect::<Vec<_>>());
        // a: all calls, 5 ms; b: half of the calls, 10 ms; c has too few.
        let ks = (20.0 * 1.0 + 60.0 * 0.5) / 80.0;
        let moved = (20.0 * 5.0 + 60.0 * 10.0) / (20.0 * 10.0 + 60.0 * 20.0);
        assert_eq!(found[..3], [ks, moved, 0.8]);
    }

    #[test]
    fn start_offsets_are_compared() {
        // Two of the example's six calls start with their parent, as the only one of the other does.
        let found = values(&[&paper_example()], &[&flat("S_1", 2, 9)]);
        assert!((found[3] - 4.0 / 6.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn response_times_by_hand() {
        // 20 graphs a side: roots (MS_00100) of 10 ms against 15 ms, a child that is only real.
        let real: Vec<CallGraph> = (0..20).map(|_| flat("S_1", 2, 10)).collect();
        let synthetic: Vec<CallGraph> = (0..20).map(|_| flat("S_1", 1, 15)).collect();
        let (real, synthetic): (Vec<&CallGraph>, Vec<&CallGraph>) =
            (real.iter().collect(), synthetic.iter().collect());
        let found = values(&real, &synthetic);
        assert_eq!(found[..3], [1.0, 0.5, 0.5]);
        // Without children there are no offsets; one call open against two.
        assert!(found[3].is_nan());
        assert_eq!(found[4], 1.0);
        assert_eq!(found[5..7], [1.5, 1.5]);
        assert!(found[7..9].iter().all(|ratio| ratio.is_nan()));
        // One call less is not enough for a distribution, and is said to be left out.
        let found = values(&real[..19], &synthetic);
        assert!(found[0].is_nan() && found[1].is_nan() && found[2] == 0.0);
        assert!(values(&real, &[]).iter().all(|value| value.is_nan()));
    }
}
