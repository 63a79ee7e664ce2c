//! What every metric is: the one place that knows its title, its unit, which direction is better and what
//! its interval is. Definitions stand beside the code that computes them; docs/metrics.md sums them up.

use super::distribution::{
    CONCURRENCY_KS, CONTINGENCY_SIMILARITY, CORRELATION_SIMILARITY, DETECTION, EMD_IN_DEGREE,
    EMD_OUT_DEGREE, EMD_RESPONSE_TIME, MMD, PGD, QUANTILE_RATIO, RESPONSE_TIME_COVERAGE,
    RESPONSE_TIME_EMD, RESPONSE_TIME_KS, START_OFFSET_KS,
};
use super::downstream::{anomalies, critical, score};
use super::novelty::{membership, occurrence, privacy};
use super::{accuracy, effort, fidelity, heavy_hitters, instructions, popular_calls, shape, truth};

/// What a metric's values are numbers of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 0 to 1, shown in per cent; differences are in points.
    Fraction,
    /// Differences of fractions, shown in points of a hundred.
    Points,
    Nats,
    NatsPerCall,
    Tokens,
    /// Whole things.
    Count,
    /// A number without a unit.
    Plain,
}

/// Which values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// As near as can be to what real graphs have.
    AsReal,
    /// A fact, neither good nor bad.
    Neither,
}

/// What a metric's 95 % interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalKind {
    /// Wilson's score interval of a count. Whether the things counted are others for each seed, so that
    /// those of all seeds together are one count.
    Wilson {
        independent: bool,
    },
    /// Percentiles of resamples, of services or of test examples.
    Bootstrap,
    /// Percentiles of repeats of the measurement.
    Repeats,
    /// Jackknife over services.
    Jackknife,
    None,
}

/// The description of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name and version of the definition: `accuracy/1`.
    pub id: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub interval: IntervalKind,
    pub family: Family,
}

/// Metrics that are computed and reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Accuracy,
    Fidelity,
    Distribution,
    Novelty,
    Instructions,
    Truth,
    Downstream,
    /// What decoding costs; beside every family.
    Effort,
    /// Networks tuned for other tasks.
    Probes,
}

impl Metric {
    /// The description of the metric with this id.
    pub fn find(id: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.id == id)
    }
}

/// Counts of prompts or graphs, which are others for each seed.
pub const WILSON: IntervalKind = IntervalKind::Wilson { independent: true };
/// Counts of things that all seeds share.
const WILSON_SHARED: IntervalKind = IntervalKind::Wilson { independent: false };

/// A description, in one line of a table.
pub const fn metric(
    id: &'static str,
    title: &'static str,
    unit: Unit,
    better: Better,
    interval: IntervalKind,
    family: Family,
) -> Metric {
    Metric { id, title, unit, better, interval, family }
}

/// Every metric of this module.
pub const METRICS: &[Metric] = {
    use Better::{AsReal, Higher, Lower, Neither};
    use Family::*;
    use IntervalKind::{Bootstrap, Jackknife, Repeats};
    use Unit::{Count, Fraction, Nats, NatsPerCall, Plain, Points, Tokens};
    const NONE: IntervalKind = IntervalKind::None;
    &[
        metric(accuracy::ACCURACY, "condition accuracy", Fraction, Higher, WILSON, Accuracy),
        metric(accuracy::FAILURE, "prompts by first violation", Fraction, Lower, WILSON, Accuracy),
        metric(accuracy::TRAIN_GRAPHS, "training graphs of a cell", Count, Neither, NONE, Accuracy),
        metric(effort::MODEL_TOKENS, "tokens per prompt", Tokens, Lower, Bootstrap, Effort),
        metric(
            effort::TOKENS_PER_ACCURATE,
            "tokens per accurate answer",
            Tokens,
            Lower,
            Bootstrap,
            Effort,
        ),
        metric(
            effort::FEASIBLE_MASS,
            "probability mass of allowed tokens",
            Plain,
            Higher,
            Bootstrap,
            Effort,
        ),
        metric(fidelity::VALID, "valid", Fraction, Higher, WILSON, Fidelity),
        metric(
            popular_calls::KL_TOP100,
            "KL of the 100 most popular calls",
            Nats,
            Lower,
            Bootstrap,
            Fidelity,
        ),
        metric(
            popular_calls::KL_TOP100_OTHER,
            "KL with all other calls",
            Nats,
            Lower,
            Bootstrap,
            Fidelity,
        ),
        metric(
            popular_calls::POPULAR_CALL,
            "fraction of a popular call",
            Fraction,
            AsReal,
            Bootstrap,
            Fidelity,
        ),
        metric(
            heavy_hitters::HEAVY_HITTERS,
            "overlap of the most called microservices",
            Fraction,
            Higher,
            Repeats,
            Fidelity,
        ),
        metric(shape::EDGES_SHARE, "graphs by number of edges", Fraction, AsReal, WILSON, Fidelity),
        metric(shape::DEPTH_SHARE, "graphs by depth", Fraction, AsReal, WILSON, Fidelity),
        metric(shape::EDGES_TV, "total variation of edges", Plain, Lower, Bootstrap, Fidelity),
        metric(shape::DEPTH_TV, "total variation of depth", Plain, Lower, Bootstrap, Fidelity),
        metric(
            shape::LATENCY_KS,
            "Kolmogorov-Smirnov distance of latency",
            Plain,
            Lower,
            Bootstrap,
            Fidelity,
        ),
        metric(PGD, "PolyGraph discrepancy", Plain, Lower, Bootstrap, Distribution),
        metric(DETECTION, "detection score", Plain, Higher, Bootstrap, Distribution),
        metric(MMD, "squared maximum mean discrepancy", Plain, Lower, Bootstrap, Distribution),
        metric(
            EMD_IN_DEGREE,
            "earth mover's distance of in-degree",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            EMD_OUT_DEGREE,
            "earth mover's distance of out-degree",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            EMD_RESPONSE_TIME,
            "earth mover's distance of response time",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            RESPONSE_TIME_KS,
            "Kolmogorov-Smirnov distance of response times",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            RESPONSE_TIME_EMD,
            "earth mover's distance of response times by microservice",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            RESPONSE_TIME_COVERAGE,
            "real calls whose response times are compared",
            Plain,
            Higher,
            Bootstrap,
            Distribution,
        ),
        metric(
            START_OFFSET_KS,
            "Kolmogorov-Smirnov distance of start offsets",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            CONCURRENCY_KS,
            "Kolmogorov-Smirnov distance of concurrency",
            Plain,
            Lower,
            Bootstrap,
            Distribution,
        ),
        metric(
            QUANTILE_RATIO,
            "quantile, synthetic over real",
            Plain,
            AsReal,
            Bootstrap,
            Distribution,
        ),
        metric(
            CORRELATION_SIMILARITY,
            "similarity of correlations",
            Plain,
            Higher,
            Bootstrap,
            Distribution,
        ),
        metric(
            CONTINGENCY_SIMILARITY,
            "similarity of caller-called pairs",
            Plain,
            Higher,
            Bootstrap,
            Distribution,
        ),
        metric(occurrence::UNIQUENESS, "unique", Fraction, AsReal, Jackknife, Novelty),
        metric(occurrence::DISTINCT_PROMPTS, "distinct prompts", Fraction, Neither, NONE, Novelty),
        metric(occurrence::NOVELTY, "novel", Fraction, AsReal, WILSON, Novelty),
        metric(
            occurrence::VALID_UNIQUE_NOVEL,
            "valid, unique and novel",
            Fraction,
            AsReal,
            Jackknife,
            Novelty,
        ),
        metric(occurrence::MEMORISED, "memorised", Fraction, AsReal, WILSON, Novelty),
        metric(
            privacy::PROTECTION,
            "protection by distance to the closest record",
            Fraction,
            Higher,
            Bootstrap,
            Novelty,
        ),
        metric(
            privacy::NEAREST,
            "distance to the nearest graph",
            Plain,
            AsReal,
            Bootstrap,
            Novelty,
        ),
        metric(privacy::AUTHENTICITY, "authentic", Fraction, AsReal, Bootstrap, Novelty),
        metric(
            membership::MEMBERSHIP,
            "AUC of membership inference",
            Plain,
            Lower,
            Bootstrap,
            Novelty,
        ),
        metric(
            membership::MEMBERSHIP_BY_SIZE,
            "AUC of membership by size",
            Plain,
            Neither,
            Bootstrap,
            Novelty,
        ),
        metric(
            membership::LOG_LIKELIHOOD,
            "log-likelihood",
            NatsPerCall,
            Neither,
            Bootstrap,
            Novelty,
        ),
        metric(
            instructions::FOLLOWED,
            "instruction-following rate",
            Fraction,
            Higher,
            WILSON,
            Instructions,
        ),
        metric(
            instructions::GAIN,
            "lift of the instruction",
            Fraction,
            Higher,
            Bootstrap,
            Instructions,
        ),
        metric(
            instructions::ACCURACY_CHANGE,
            "change of condition accuracy",
            Fraction,
            Higher,
            Bootstrap,
            Instructions,
        ),
        metric(
            instructions::PROMPTS,
            "distinct prompts of a kind",
            Count,
            Neither,
            NONE,
            Instructions,
        ),
        metric(
            truth::CALLS_TV,
            "total variation of calls from the truth",
            Plain,
            Lower,
            Bootstrap,
            Truth,
        ),
        metric(truth::CALLS_KL, "KL of calls from the truth", Nats, Lower, Bootstrap, Truth),
        metric(
            truth::SHAPES_TV,
            "total variation of shapes from the truth",
            Plain,
            Lower,
            Bootstrap,
            Truth,
        ),
        metric(truth::FALSE_CALLS, "hallucinated calls", Fraction, Lower, Bootstrap, Truth),
        metric(truth::BRANCH_RECALL, "rare-branch recall", Fraction, AsReal, WILSON_SHARED, Truth),
        metric(
            truth::EXPECTED_RECALL,
            "rare-branch recall of the truth",
            Fraction,
            Neither,
            NONE,
            Truth,
        ),
        metric(anomalies::AUC, "AUC of anomaly detection", Plain, Higher, Bootstrap, Downstream),
        metric(
            anomalies::AUC_PR,
            "average precision of anomaly detection",
            Plain,
            Higher,
            Bootstrap,
            Downstream,
        ),
        metric(score::ACCURACY, "accuracy of the task", Fraction, Higher, Bootstrap, Downstream),
        metric(
            score::BALANCED_ACCURACY,
            "balanced accuracy of the task",
            Fraction,
            Higher,
            Bootstrap,
            Downstream,
        ),
        metric(score::F1, "F1 of the task", Fraction, Higher, Bootstrap, Downstream),
        metric(score::AUC, "AUC of the task", Plain, Higher, Bootstrap, Downstream),
        metric(
            score::GAP,
            "balanced accuracy against real training graphs",
            Points,
            Higher,
            Bootstrap,
            Downstream,
        ),
        metric(
            score::ACCURACY_GAP,
            "accuracy against real training graphs",
            Points,
            Higher,
            Bootstrap,
            Downstream,
        ),
        metric(score::TRAINING, "true training examples", Fraction, Neither, NONE, Downstream),
        metric(
            critical::APPLICATION,
            "training graphs of an application",
            Count,
            Neither,
            NONE,
            Downstream,
        ),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_carry_their_version() {
        let ids: BTreeSet<&str> = METRICS.iter().map(|metric| metric.id).collect();
        assert_eq!(ids.len(), METRICS.len());
        for id in ids {
            let version = id.rsplit_once('/').and_then(|(_, version)| version.parse::<u32>().ok());
            assert!(version.is_some_and(|version| version > 0), "{id}");
        }
    }
}
