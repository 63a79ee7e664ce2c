use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::display;

/// Declares [`ViolationCode`] with the text of each code beside its meaning.
macro_rules! violation_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why a graph, a layer or a reply is not valid. The texts are stable: they appear in
        /// tables and committed results.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ViolationCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl ViolationCode {
            pub const ALL: &[ViolationCode] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

violation_codes! {
    // A whole graph (paper, section 1).
    /// No calls at all.
    Empty = "empty",
    /// No call has the id `0`.
    NoRoot = "no-root",
    /// A path of one number other than `0`: a second root.
    SecondRoot = "second-root",
    /// Two calls share an id.
    DuplicateEdgeId = "duplicate-edge-id",
    /// The call that the path names as parent does not exist.
    MissingParent = "missing-parent",
    /// A call's source is not its parent's destination (or, for the root, not `USER`).
    SourceMismatch = "source-mismatch",
    /// A call finishes before it starts.
    FinishBeforeStart = "finish-before-start",
    /// A call starts before its parent.
    StartBeforeParent = "start-before-parent",
    /// A call finishes after its parent.
    FinishAfterParent = "finish-after-parent",

    // The text of one generation step (paper, section 5).
    /// The blocks of the reply do not parse.
    Format = "format",
    /// The reply or the graph reached the limit on its length before it was complete.
    Truncated = "truncated",
    /// An edge lacks a field, or has one twice.
    EdgeField = "edge-field",
    /// The layer's number of edges is not the condition's `num_current_edges`.
    EdgeCount = "edge-count",
    /// The layer's first edge starts before the condition's start.
    StartBeforeCondition = "start-before-condition",
    /// An edge finishes after the condition's latency.
    FinishAfterLatency = "finish-after-latency",
    /// Sub-conditions although no depth remains.
    SubgraphBeyondDepth = "subgraph-beyond-depth",
    /// Sub-conditions although no edges remain.
    SubgraphBeyondEdges = "subgraph-beyond-edges",
    /// A sub-condition names an edge that the layer does not have, or one twice.
    SubgraphEdge = "subgraph-edge",
    /// A sub-condition's remaining depth is not smaller than the layer's.
    SubgraphDepth = "subgraph-depth",
    /// No sub-condition's remaining depth is exactly one less than the layer's.
    DepthLost = "depth-lost",
    /// A sub-condition's start node is not its edge's destination.
    SubgraphStartNode = "subgraph-start-node",
    /// A sub-condition's caller is not the layer's start node.
    SubgraphCaller = "subgraph-caller",
    /// A sub-condition's latency is above its edge's finish.
    SubgraphLatency = "subgraph-latency",
    /// A sub-condition starts before its edge.
    SubgraphStart = "subgraph-start",
    /// The layer's edges and the sub-conditions' `num_edges` do not add up to the condition's.
    EdgeSum = "edge-sum",
    /// No part of a split keeps the remaining depth.
    SplitDepth = "split-depth",
    /// A part of a split is not strictly smaller than the whole.
    SplitPart = "split-part",
    /// The parts of a split do not add up to the whole.
    SplitSum = "split-sum",

    // A graph against its request.
    /// The graph's number of edges is not the requested one.
    RequestEdges = "request-edges",
    /// The graph's depth is not the requested one.
    RequestDepth = "request-depth",
    /// The generator did not answer this request.
    NoReply = "no-reply",
    /// No valid graph answers the request, or none within limits: nothing was generated.
    Infeasible = "infeasible",
}

impl fmt::Display for ViolationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ViolationCode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
    }
}

/// One broken constraint, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    pub code: ViolationCode,
    /// What was found, in words: the edge, the value and the bound. Fit to be shown, as it quotes what
    /// came from outside.
    pub detail: String,
}

impl Violation {
    pub fn new(code: ViolationCode, detail: impl Into<String>) -> Self {
        Self { code, detail: display::line(&detail.into()).into_owned() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}
