//! What the parsers of all formats share: what they give, and what they count.

use super::span::{Span, TraceId, Value};
use super::tape::{Node, Problem};
use crate::graph::{Interner, Name};

/// Which attributes a parser keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// Those that say what becomes of a span (`tree.rs`). Of most of these it matters only that they are
    /// there.
    Policy,
}

/// What a file of spans holds, one after the other.
#[derive(Debug, PartialEq)]
pub enum Read {
    Span(Span),
    /// A span of this trace was left out: it cannot be read, or does not say which it is. The trace is
    /// not all there.
    Incomplete(TraceId),
}

/// What was counted while spans were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All spans, with those that were left out.
    pub spans: u64,
    /// Spans, or pieces that hold spans, that cannot be read and were left out.
    pub bad: u64,
    /// Spans without an id, or without the id of a trace, which were left out.
    pub without_ids: u64,
    /// Spans that name several parents, of which one was taken.
    pub several_parents: u64,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.spans += other.spans;
        self.bad += other.bad;
        self.without_ids += other.without_ids;
        self.several_parents += other.several_parents;
    }
}

/// Takes what a parser finds.
pub struct Reading<'a> {
    pub keep: Keep,
    /// Whether spans that cannot be read are left out.
    pub skip: bool,
    pub names: &'a mut Interner,
    pub counts: Counts,
    pub take: &'a mut dyn FnMut(Read),
}

/// Values longer than this are not looked up among those known: hardly one occurs twice.
const LONGEST_SHARED: usize = 80;

impl Reading<'_> {
    /// Takes a span, or what is wrong with it; `trace` is its trace's id as far as it is known.
    ///
    /// # Errors
    /// The problem, unless such spans are left out.
    pub fn span(
        &mut self,
        span: Result<Option<Span>, Problem>,
        trace: Option<TraceId>,
    ) -> Result<(), Problem> {
        self.counts.spans += 1;
        match span {
            Ok(Some(span)) => {
                (self.take)(Read::Span(span));
                return Ok(());
            }
            Ok(None) => self.counts.without_ids += 1,
            Err(problem) if !self.skip => return Err(problem),
            Err(_) => self.counts.bad += 1,
        }
        if let Some(trace) = trace {
            (self.take)(Read::Incomplete(trace));
        }
        Ok(())
    }

    /// A name or a value that may occur again.
    pub fn name(&mut self, text: &str) -> Name {
        if text.len() <= LONGEST_SHARED { self.names.name(text) } else { text.into() }
    }

    /// What is kept of an attribute, if anything is; `value` reads it.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn attribute(
        &mut self,
        key: &str,
        value: impl FnOnce(&mut Self) -> Result<Option<Value>, Problem>,
    ) -> Result<Option<(Name, Value)>, Problem> {
        let value = match (self.keep, Use::of(key)) {
            (Keep::Policy, Use::None) => return Ok(None),
            (Keep::Policy, Use::Presence) => Some(Value::Bool(true)),
            _ => value(self)?,
        };
        Ok(value.map(|value| (self.name(key), value)))
    }

    /// A JSON value as the value of an attribute, whatever it is; `None` for `null`.
    pub fn value(&mut self, node: Node<'_>) -> Option<Value> {
        if let Some(text) = node.as_text() {
            return Some(Value::Text(self.name(text)));
        }
        if let Some(value) = node.as_bool() {
            return Some(Value::Bool(value));
        }
        if node.is_list() {
            let elements = node.list().ok()?;
            return Some(Value::List(elements.filter_map(|element| self.value(element)).collect()));
        }
        if node.is_map() {
            let entries = node.map().ok()?;
            let entries = entries.filter_map(|(key, value)| {
                let value = self.value(value)?;
                Some((self.name(key), value))
            });
            return Some(Value::Map(entries.collect()));
        }
        match node.signed() {
            Ok(value) if !node.is_float() => Some(Value::Int(value)),
            _ => node.double().ok().map(Value::Double),
        }
    }
}

/// What an attribute is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    None,
    /// It matters that it is there.
    Presence,
    /// Its value matters.
    Value,
}

impl Use {
    /// By its key.
    pub fn of(key: &str) -> Self {
        match key {
            "component"
            | "container.id"
            | "db.name"
            | "db.namespace"
            | "db.system"
            | "db.system.name"
            | "db.type"
            | "host.id"
            | "host.name"
            | "hostname"
            | "ip"
            | "k8s.pod.name"
            | "messaging.destination"
            | "messaging.destination.name"
            | "messaging.system"
            | "net.peer.name"
            | "opentracing.ref_type"
            | "peer.service"
            | "server.address"
            | "service.peer.name" => return Self::Value,
            key if key.starts_with("tracegym.") => return Self::Value,
            _ => {}
        }
        let families = ["http.", "url.", "rpc.", "grpc.", "db.", "messaging.", "message_bus."];
        if families.iter().any(|family| key.starts_with(family)) {
            Self::Presence
        } else {
            Self::None
        }
    }
}
