use std::fmt;

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

impl Unit {
    /// What stands behind a metric's name in a heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Fraction => "%",
            Self::Points => "points",
            Self::Nats => "nats",
            Self::NatsPerCall => "nats per call",
            Self::Tokens | Self::Count | Self::Plain => "",
        }
    }
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
    /// Wilson's score interval of a count.
    Wilson,
    /// Recentred percentiles of resamples, of services or of test examples.
    Bootstrap,
    /// Jackknife over services.
    Jackknife,
    None,
}

/// The description of a metric: the one place that knows what its numbers are. It is a constant beside the
/// code that computes them, whose comment is the definition (docs/metrics.md sums them up).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name and version of the definition: `accuracy/1`. A changed definition gets a new version, so that
    /// numbers of different meaning are never compared.
    pub id: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub better: Better,
    pub interval: IntervalKind,
    /// Whether it is measured on samples of one size (`evaluate/samples.rs`), as its value depends on the
    /// number of graphs.
    pub of_samples: bool,
}

impl Metric {
    /// A fact without an interval, until more is said.
    const fn new(id: &'static str, title: &'static str, unit: Unit) -> Self {
        Self {
            id,
            title,
            unit,
            better: Better::Neither,
            interval: IntervalKind::None,
            of_samples: false,
        }
    }

    pub const fn fraction(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Fraction)
    }

    pub const fn points(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Points)
    }

    pub const fn nats(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Nats)
    }

    pub const fn nats_per_call(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::NatsPerCall)
    }

    pub const fn tokens(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Tokens)
    }

    pub const fn count(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Count)
    }

    /// A number without a unit.
    pub const fn plain(id: &'static str, title: &'static str) -> Self {
        Self::new(id, title, Unit::Plain)
    }

    /// Higher values are better.
    #[must_use]
    pub const fn higher(self) -> Self {
        Self { better: Better::Higher, ..self }
    }

    /// Lower values are better.
    #[must_use]
    pub const fn lower(self) -> Self {
        Self { better: Better::Lower, ..self }
    }

    /// Values are good as near as can be to what real graphs have.
    #[must_use]
    pub const fn as_real(self) -> Self {
        Self { better: Better::AsReal, ..self }
    }

    /// A count.
    #[must_use]
    pub const fn wilson(self) -> Self {
        Self { interval: IntervalKind::Wilson, ..self }
    }

    #[must_use]
    pub const fn bootstrap(self) -> Self {
        Self { interval: IntervalKind::Bootstrap, ..self }
    }

    #[must_use]
    pub const fn jackknife(self) -> Self {
        Self { interval: IntervalKind::Jackknife, ..self }
    }

    /// Measured on samples of one size.
    #[must_use]
    pub const fn of_samples(self) -> Self {
        Self { of_samples: true, ..self }
    }

    /// Whether values are shown in per cent.
    pub fn is_fraction(&self) -> bool {
        self.unit == Unit::Fraction
    }
}

/// The id.
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}
