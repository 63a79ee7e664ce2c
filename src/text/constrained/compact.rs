//! The compact format.

use super::counts::Count;
use super::step::{Bounds, Field, Number, StepState};
use super::{Expect, Grammar, Piece};
use crate::graph::{CallType, LayerCondition, Name};
use crate::text::compact::{NUMBERS, line_start};
use crate::text::name;

/// One generation step in the compact format.
#[derive(Clone, Debug)]
pub struct Compact {
    state: StepState,
    at: At,
    remaining_counts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// Before an edge or part.
    Line,
    Destination,
    Kind,
    FieldSign(Field),
    FieldValue(Field),
    /// Before a number of a sub-condition or part, by its place in [`NUMBERS`].
    Sign(usize),
    Value(usize),
    /// After an edge: a sub-condition may follow.
    EdgeEnd,
    ConditionEnd,
}

/// The numbers in the order of [`NUMBERS`].
const ORDER: [Number; 7] = [
    Number::Count(Count::Edges),
    Number::Count(Count::Depth),
    Number::Latency,
    Number::Start,
    Number::First,
    Number::Count(Count::Current),
    Number::Count(Count::Subgraphs),
];

impl Compact {
    /// The answer to a step's condition; see [`StepState::new`] for what the condition must have.
    pub fn new(condition: LayerCondition, bounds: Bounds, remaining_counts: bool) -> Self {
        Self { state: StepState::new(condition, bounds), at: At::Line, remaining_counts }
    }

    /// What may follow where an edge or sub-condition ends: the next one, or the end.
    fn more(&self) -> Option<String> {
        let left = self.state.remaining_counts();
        if self.state.is_split() {
            let more = || line_start(self.remaining_counts, &left, '|') + "e";
            (self.state.left() > 0).then(more)
        } else {
            (left.edges > 0).then(|| line_start(self.remaining_counts, &left, '>'))
        }
    }

    fn or_end(literals: Vec<String>) -> Expect {
        if literals.is_empty() { Expect::End } else { Expect::Literals(literals) }
    }
}

impl Grammar for Compact {
    fn expect(&self) -> Expect {
        let literal = |text: String| Expect::Literals(vec![text]);
        match self.at {
            At::Line => Self::or_end(self.more().into_iter().collect()),
            At::Destination => Expect::Name(None),
            At::Kind => Expect::Literals(CallType::ALL.map(|kind| format!(":{kind},#")).to_vec()),
            At::FieldSign(Field::Start) => literal(",t".into()),
            At::FieldSign(_) => literal(",f".into()),
            At::FieldValue(field) => Expect::Number(self.state.field(field)),
            At::EdgeEnd => {
                let (below, edges) = (self.state.left(), self.state.edges_left());
                let mut literals = Vec::new();
                if below > 0 {
                    literals.push("{e".to_owned());
                }
                if below <= edges {
                    literals.extend(self.more());
                }
                Self::or_end(literals)
            }
            At::Sign(place) => literal(format!(",{}", NUMBERS[place])),
            At::Value(place) => Expect::Number(self.state.number(ORDER[place])),
            At::ConditionEnd => literal("}".to_owned() + &self.more().unwrap_or_default()),
        }
    }

    fn accept(&mut self, piece: Piece<'_>) {
        let line = if self.state.is_split() { At::Value(0) } else { At::Destination };
        self.at = match (self.at, piece) {
            (At::Line, _) => line,
            (At::Destination, Piece::Name(text)) => {
                let name = name::read(text).map_or_else(|| Name::from(text), |n| Name::from(&*n));
                self.state.set_destination(name);
                At::Kind
            }
            (At::Kind, Piece::Literal(index)) => {
                self.state.set_kind(CallType::ALL[index]);
                At::FieldValue(Field::Number)
            }
            (At::FieldSign(field), _) => At::FieldValue(field),
            (At::FieldValue(field), Piece::Number(value)) => {
                self.state.set_number(field, value);
                match field {
                    Field::Number => At::FieldSign(Field::Start),
                    Field::Start => At::FieldSign(Field::Finish),
                    _ => {
                        self.state.end_edge();
                        At::EdgeEnd
                    }
                }
            }
            (At::EdgeEnd, Piece::Literal(index)) => {
                let opens = self.state.left() > 0 && index == 0;
                let number = self.state.edges.last().map(|edge| edge.number);
                match number.filter(|_| opens) {
                    Some(number) => {
                        self.state.begin_subgraph(number);
                        At::Value(0)
                    }
                    None => line,
                }
            }
            (At::Sign(place), _) => At::Value(place),
            (At::Value(place), Piece::Number(value)) => {
                self.state.choose(ORDER[place], value);
                match (place + 1 < ORDER.len(), self.state.is_split()) {
                    (true, _) => At::Sign(place + 1),
                    (false, false) => {
                        self.state.end_condition();
                        At::ConditionEnd
                    }
                    (false, true) => {
                        self.state.end_condition();
                        At::Line
                    }
                }
            }
            (At::ConditionEnd, _) if self.state.edges_left() > 0 => line,
            (At::ConditionEnd, _) => At::Line,
            (at, _) => at,
        };
    }
}
