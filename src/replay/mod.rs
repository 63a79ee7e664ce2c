//! Traces sent to a tracing backend at a chosen rate, by OTLP over HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/>), with faults put into them.

mod faults;
mod send;

pub use faults::{FAILED, Faults, Injected, SKEW, SLOW};
pub use send::{Options, Outcome, Traces, address, replay};
