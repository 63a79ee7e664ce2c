//! Where verbs write graphs to, and how: the flags that they share.

use std::io::{BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::Result;
use chrono::DateTime;
use clap::Args;

use crate::durable;
use crate::error::UserError;
use crate::export::{Exporter, Format, Settings};

/// Flags of the verbs that write graphs.
#[derive(Args, Debug)]
pub struct OutputArgs {
    #[arg(long, value_enum, default_value_t = Format::CallTable)]
    format: Format,
    /// The file to write; standard output if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// When the first trace begins, in formats with absolute times.
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z", value_parser = time)]
    start: u64,
    /// How many traces begin in a second, in formats with absolute times.
    #[arg(long, value_name = "N/s", default_value = "10/s", value_parser = rate)]
    rate: f64,
}

/// Graphs on their way out.
pub type Graphs<'a> = Exporter<Box<dyn Write + Send + 'a>>;

impl OutputArgs {
    /// Whether so many graphs can be written.
    ///
    /// # Errors
    /// A file that nobody named, or more graphs than one file holds.
    pub fn check(&self, graphs: u64) -> Result<(), UserError> {
        self.format.check(graphs)?;
        if self.out.is_some() || self.format.is_text() {
            return Ok(());
        }
        Err(UserError::setting("this format is not text: name a file with --out"))
    }

    /// Writes what `fill` hands over. A file appears when it is whole; on standard output each graph appears
    /// when it is written.
    ///
    /// # Errors
    /// What `fill` fails with, or a place that cannot be written.
    pub fn write(&self, seed: u64, fill: impl FnOnce(&mut Graphs) -> Result<()>) -> Result<()> {
        let every = (1e9 / self.rate) as u64;
        let settings = Settings { seed, start: self.start, every };
        let written = |out: Box<dyn Write + Send + '_>| {
            let mut graphs = Exporter::new(self.format, settings, out)?;
            fill(&mut graphs)?;
            graphs.finish()
        };
        match &self.out {
            // Parquet comes in large pieces, and drops what it writes to.
            Some(path) if !self.format.is_text() => {
                durable::write_with(path, |file| written(Box::new(file)))
            }
            Some(path) => durable::write_with(path, |file| written(Box::new(BufWriter::new(file)))),
            None => match written(Box::new(std::io::stdout())) {
                // Who reads has seen enough.
                Err(error) if is_closed(&error) => Ok(()),
                other => other,
            },
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.into_iter().any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

/// Nanoseconds since 1970 of a date and time such as `2026-01-01T00:00:00Z`.
pub fn time(text: &str) -> Result<u64, String> {
    let time = DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
    time.and_then(|time| u64::try_from(time).ok()).ok_or_else(|| {
        "must be a date and time from 1970 on, such as 2026-01-01T00:00:00Z".to_owned()
    })
}

/// How often in a second: `500/s`, `0.5/s` or `30/min`.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.rsplit_once('/') {
        Some((number, "s")) => (number, 1.0),
        Some((number, "min")) => (number, 60.0),
        None => (text, 1.0),
        Some(_) => ("", 1.0),
    };
    let rate = number.trim().parse::<f64>().ok().map(|number| number / seconds);
    rate.filter(|rate| (1e-6..=1e6).contains(rate)).ok_or_else(|| {
        "must be how often in a second or a minute, such as 500/s or 30/min (at most 1000000/s)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_or_refused() {
        assert_eq!(time("1970-01-01T00:00:01.5Z"), Ok(1_500_000_000));
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(0));
        for text in ["", "2026-01-01", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(rate("500/s"), Ok(500.0));
        assert_eq!(rate("30/min"), Ok(0.5));
        assert_eq!(rate("2"), Ok(2.0));
        for text in ["", "0/s", "-1/s", "nan/s", "5/h", "/s", "2000000/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
