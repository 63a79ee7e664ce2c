//! The recursive prose, with and without notes.

use super::counts::Count;
use super::step::{Bounds, Field, Number, StepState};
use super::{Expect, Grammar, Piece};
use crate::graph::{CallType, LayerCondition, Name};
use crate::text::instruction::{FINISH, PLAN, Scratchpad};
use crate::text::name;
use crate::text::recursive::ATTRIBUTES;

/// One generation step in prose.
#[derive(Clone, Debug)]
pub struct Prose {
    state: StepState,
    /// Running counts of the notes, where there are notes.
    notes: Option<Scratchpad>,
    with_notes: bool,
    at: At,
    /// With notes: the numbers of the edges that the plan names, those with a sub-condition to come
    /// last.
    plan: Vec<u32>,
    /// How many of them have their sub-condition.
    done: usize,
    /// Attributes that the sub-condition or part under way has, as bits of [`ATTRIBUTES`].
    written: u16,
}

/// Where in a step the text is.
#[derive(Clone, Debug, PartialEq)]
enum At {
    /// A text to which there is no alternative, and what follows it.
    Literal(String, Box<At>),
    /// The words that begin a field.
    FieldKey,
    FieldValue(Field),
    /// After a field.
    FieldEnd,
    /// The number of the edge that has the next sub-condition; with notes, in their plan.
    SubgraphEdge,
    /// In the note before a sub-condition: whether it keeps the depth.
    KeepsDepth,
    AttributeKey,
    AttributeValue(usize),
    AttributeEnd,
    End,
}

impl At {
    fn literal(text: impl Into<String>, then: Self) -> Self {
        Self::Literal(text.into(), Box::new(then))
    }
}

/// The words that begin a field.
fn key(field: Field) -> &'static str {
    match field {
        Field::Destination => "destination is ",
        Field::Kind => "type is ",
        Field::Number => "edge_id is ",
        Field::Start => "communication starts at ",
        Field::Finish => "communication finishes at ",
    }
}

/// What an attribute is, by its place in [`ATTRIBUTES`]: a name by its place in
/// [`StepState::names`], or a number.
fn attribute(place: usize) -> Result<usize, Number> {
    match ATTRIBUTES[place] {
        "id" => Ok(0),
        "start_node" => Ok(1),
        "caller" => Ok(2),
        "num_edges" => Err(Number::Count(Count::Edges)),
        "remaining_depth" => Err(Number::Count(Count::Depth)),
        "num_current_edges" => Err(Number::Count(Count::Current)),
        "num_subgraphs" => Err(Number::Count(Count::Subgraphs)),
        "latency" => Err(Number::Latency),
        "start_edge_id" => Err(Number::First),
        _ => Err(Number::Start),
    }
}

impl Prose {
    /// The answer to a step's condition; see [`StepState::new`] for what the condition must have.
    pub fn new(condition: LayerCondition, bounds: Bounds, with_notes: bool) -> Self {
        let state = StepState::new(condition, bounds);
        let (text, at) =
            if state.is_split() { ("<subgraph>", At::AttributeKey) } else { ("(", At::FieldKey) };
        let notes = (with_notes && state.is_split()).then(|| Scratchpad::split(&state.condition));
        let at = At::literal(text, at);
        Self { notes, with_notes, at, plan: Vec::new(), done: 0, written: 0, state }
    }

    fn open_fields(&self) -> Vec<Field> {
        Field::ALL.into_iter().filter(|field| self.state.is_open(*field)).collect()
    }

    fn open_attributes(&self) -> Vec<usize> {
        // A root that has no caller has none to hand down to parts either.
        let names = self.state.names();
        let exists = |place: &usize| attribute(*place).map_or(true, |name| names[name].is_some());
        let open = (0..ATTRIBUTES.len()).filter(|place| self.written >> place & 1 == 0);
        open.filter(exists).collect()
    }

    /// After a field of an edge.
    fn end_field(&mut self) -> At {
        if !self.open_fields().is_empty() {
            return At::literal(",", At::FieldKey);
        }
        self.state.end_edge();
        if self.state.edges_left() > 0 {
            return At::literal(")\n(", At::FieldKey);
        }
        let mut text = ")\n</edges>\n".to_owned();
        if self.with_notes {
            let (edges, condition) = (&self.state.edges, &self.state.condition);
            self.notes = Some(Scratchpad::layer(&mut text, edges, condition));
        }
        self.next_subgraph(text)
    }

    /// After the edges or a sub-condition of a layer; `text` comes first.
    fn next_subgraph(&mut self, mut text: String) -> At {
        if self.state.left() == 0 {
            return self.finish(text);
        }
        if !self.with_notes {
            text.push_str("<subgraph of edge_id ");
            return At::literal(text, At::SubgraphEdge);
        }
        if self.plan.is_empty() {
            text.push_str(PLAN);
            text.push_str("edge_id ");
            return At::literal(text, At::SubgraphEdge);
        }
        self.open_planned(text)
    }

    fn finish(&self, mut text: String) -> At {
        if self.with_notes {
            text.push_str(FINISH);
            text.push('\n');
        }
        text.push_str(if self.state.is_split() { "</split>" } else { "</layer>" });
        At::literal(text, At::End)
    }

    /// After the number of an edge that has a sub-condition.
    fn chosen_edge(&mut self, number: u32) -> At {
        if !self.with_notes {
            self.state.begin_subgraph(number);
            return At::literal(">", At::AttributeKey);
        }
        self.plan.push(number);
        if (self.plan.len() as u32) < self.state.left() {
            return At::literal(",edge_id ", At::SubgraphEdge);
        }
        self.open_planned("\n".to_owned())
    }

    /// Numbers of edges that may have the next sub-condition.
    fn eligible(&self) -> super::Ranges {
        let mut numbers = super::Ranges::default();
        let eligible = self.state.eligible(&self.plan);
        eligible.iter().for_each(|edge| numbers.add(edge.number, edge.number));
        numbers
    }

    /// The note before the next sub-condition of the plan; `text` comes first.
    fn open_planned(&mut self, mut text: String) -> At {
        let Some(&number) = self.plan.get(self.done) else { return At::End };
        self.done += 1;
        self.state.begin_subgraph(number);
        if let (Some(notes), Some(edge)) = (&self.notes, self.state.subgraph_edge()) {
            notes.about_subgraph(&mut text, edge);
        }
        At::literal(text, At::KeepsDepth)
    }

    /// The ends of that note: of a sub-condition that keeps the depth, and of any other.
    fn note_ends(&self) -> Vec<(bool, String)> {
        let open = format!("\n<subgraph of edge_id {}>", self.plan[self.done - 1]);
        match self.notes.as_ref().and_then(Scratchpad::depth_note) {
            Some(note) => [(true, note + &open), (false, open)]
                .into_iter()
                .filter(|(keeps, _)| self.state.may_keep_depth(*keeps))
                .collect(),
            None => vec![(false, open)],
        }
    }

    /// After an attribute.
    fn end_attribute(&mut self) -> At {
        if !self.open_attributes().is_empty() {
            return At::literal("/", At::AttributeKey);
        }
        self.written = 0;
        let below = self.state.end_condition();
        let mut text = "</subgraph>\n".to_owned();
        if let Some(notes) = &mut self.notes {
            notes.take(&mut text, &below.condition);
        }
        if !self.state.is_split() {
            return self.next_subgraph(text);
        }
        if self.state.left() > 0 {
            text.push_str("<subgraph>");
            return At::literal(text, At::AttributeKey);
        }
        self.finish(text)
    }

    /// Goes over what needs no text of its own.
    fn settle(&mut self) {
        self.at = match self.at {
            At::FieldEnd => self.end_field(),
            At::AttributeEnd => self.end_attribute(),
            _ => return,
        };
    }
}

impl Grammar for Prose {
    fn expect(&self) -> Expect {
        match &self.at {
            At::Literal(text, _) => Expect::Literals(vec![text.clone()]),
            At::FieldKey => {
                Expect::Literals(self.open_fields().into_iter().map(|f| key(f).into()).collect())
            }
            At::FieldValue(Field::Destination) => Expect::Name(None),
            At::FieldValue(Field::Kind) => {
                Expect::Literals(CallType::ALL.map(|kind| kind.to_string()).to_vec())
            }
            At::FieldValue(field) => Expect::Number(self.state.field(*field)),
            At::SubgraphEdge => Expect::Number(self.eligible()),
            At::KeepsDepth => {
                Expect::Literals(self.note_ends().into_iter().map(|(_, text)| text).collect())
            }
            At::AttributeKey => {
                let open = self.open_attributes().into_iter();
                Expect::Literals(open.map(|place| format!("{}:", ATTRIBUTES[place])).collect())
            }
            At::AttributeValue(place) => match attribute(*place) {
                Ok(of) => {
                    let text = self.state.names()[of].map(|text| name::write(text).into());
                    Expect::Literals(text.into_iter().collect())
                }
                Err(number) => Expect::Number(self.state.number(number)),
            },
            At::FieldEnd | At::AttributeEnd | At::End => Expect::End,
        }
    }

    fn accept(&mut self, piece: Piece<'_>) {
        self.at = match (&self.at, piece) {
            (At::Literal(_, then), _) => At::clone(then),
            (At::FieldKey, Piece::Literal(index)) => At::FieldValue(self.open_fields()[index]),
            (At::FieldValue(_), Piece::Name(text)) => {
                let name = name::read(text).map_or_else(|| Name::from(text), |n| Name::from(&*n));
                self.state.set_destination(name);
                At::FieldEnd
            }
            (At::FieldValue(_), Piece::Literal(index)) => {
                self.state.set_kind(CallType::ALL[index]);
                At::FieldEnd
            }
            (At::FieldValue(field), Piece::Number(value)) => {
                let field = *field;
                self.state.set_number(field, value);
                match field {
                    Field::Number => At::FieldEnd,
                    _ => At::literal(" milliseconds", At::FieldEnd),
                }
            }
            (At::SubgraphEdge, Piece::Number(number)) => self.chosen_edge(number),
            (At::KeepsDepth, Piece::Literal(index)) => {
                let (keeps, _) = self.note_ends()[index];
                if self.notes.as_ref().and_then(Scratchpad::depth_note).is_some() {
                    self.state.keep_depth(keeps);
                }
                At::AttributeKey
            }
            (At::AttributeKey, Piece::Literal(index)) => {
                At::AttributeValue(self.open_attributes()[index])
            }
            (At::AttributeValue(place), piece) => {
                let place = *place;
                self.written |= 1 << place;
                if let (Err(number), Piece::Number(value)) = (attribute(place), piece) {
                    self.state.choose(number, value);
                }
                At::AttributeEnd
            }
            (at, _) => at.clone(),
        };
        self.settle();
    }
}
