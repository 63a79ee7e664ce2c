//! The tabular format: a whole graph in one text.

use super::step::MOST_NUMBER;
use super::{Expect, Grammar, Piece, Ranges};
use crate::graph::{CallType, Condition, EdgeId, USER};

/// Latest finish of a graph whose latency is not given, milliseconds.
const MOST_TIME: u32 = 3_600_000;
/// A call's number exceeds that of its previous sibling by this at most.
const MOST_STEP: u32 = 99;

/// A graph as a table, its calls depth first as in training.
#[derive(Clone, Debug)]
pub struct Table {
    /// Calls to come, the one under way included, at most.
    left: u32,
    /// Whether all of them have to come.
    exact: bool,
    depth: Option<u32>,
    latency: u32,
    /// Deepest call so far.
    deepest: u32,
    /// The calls from the root to the last one.
    path: Vec<Node>,
    row: Row,
    at: At,
}

#[derive(Clone, Debug)]
struct Node {
    id: EdgeId,
    /// As texts write it.
    destination: String,
    start: u32,
    finish: u32,
    /// Number of its last child; 0 without one.
    last: u32,
}

/// Fields of the call under way that are known.
#[derive(Clone, Debug, Default)]
struct Row {
    source: Option<String>,
    destination: Option<String>,
    kind: bool,
    /// Place of the parent in the path (`None` inside for the root), and the number.
    id: Option<(Option<usize>, u32)>,
    start: Option<u32>,
    finish: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Source,
    Destination,
    Kind,
    Id,
    Start,
    Finish,
}

const FIELDS: [(Field, &str); 6] = [
    (Field::Source, "source is "),
    (Field::Destination, "destination is "),
    (Field::Kind, "type is "),
    (Field::Id, "edge_id is "),
    (Field::Start, "communication starts at "),
    (Field::Finish, "communication finishes at "),
];

#[derive(Clone, Debug, PartialEq)]
enum At {
    Open,
    Key,
    Value(Field),
    Unit,
    FieldEnd,
    RowEnd,
    End,
}

impl Table {
    /// The graph that a request asks for, which [`super::check_request`] has let pass.
    pub fn new(condition: &Condition) -> Self {
        Self {
            left: condition.num_edges.unwrap_or(super::MOST_EDGES),
            exact: condition.num_edges.is_some(),
            depth: condition.depth,
            latency: condition.latency.unwrap_or(MOST_TIME),
            deepest: 0,
            path: Vec::new(),
            row: Row::default(),
            at: At::Open,
        }
    }

    fn is_open(&self, field: Field) -> bool {
        match field {
            Field::Source => self.row.source.is_none(),
            Field::Destination => self.row.destination.is_none(),
            Field::Kind => !self.row.kind,
            Field::Id => self.row.id.is_none(),
            Field::Start => self.row.start.is_none(),
            Field::Finish => self.row.finish.is_none(),
        }
    }

    fn open(&self) -> Vec<(Field, &'static str)> {
        FIELDS.into_iter().filter(|(field, _)| self.is_open(*field)).collect()
    }

    /// Places in the path that the call under way may hang from, by what is known of it.
    fn parents(&self) -> Vec<usize> {
        let Row { source, id, start, finish, .. } = &self.row;
        let fits = |place: &usize| {
            let node = &self.path[*place];
            let depth = *place as u32 + 2;
            let shallow = self.depth.is_none_or(|most| depth <= most);
            // The calls after this one must suffice to reach the depth from here.
            let owed = self.depth.filter(|wanted| self.deepest < *wanted);
            let reaches = owed.is_none_or(|wanted| self.left > wanted.saturating_sub(depth));
            let inside =
                |time: &Option<u32>| time.is_none_or(|t| node.start <= t && t <= node.finish);
            let named = source.as_ref().is_none_or(|source| *source == node.destination);
            let chosen = id.is_none_or(|(parent, _)| parent == Some(*place));
            shallow && reaches && inside(start) && inside(finish) && named && chosen
        };
        (0..self.path.len()).filter(fits).collect()
    }

    fn value(&self, field: Field) -> Expect {
        let root = self.path.is_empty();
        match field {
            Field::Source if root => Expect::Literals(vec![USER.to_owned()]),
            Field::Source => {
                let parents = self.parents().into_iter();
                Expect::Name(Some(parents.map(|p| self.path[p].destination.clone()).collect()))
            }
            Field::Destination => Expect::Name(None),
            Field::Kind => Expect::Literals(CallType::ALL.map(|kind| kind.to_string()).to_vec()),
            Field::Id if root => Expect::Literals(vec!["0".to_owned()]),
            Field::Id => {
                let parents = self.parents().into_iter().map(|place| &self.path[place]);
                let id = |node: &Node| {
                    // Numbers are left for all calls to come.
                    let most = (node.last + MOST_STEP).min(MOST_NUMBER - self.left);
                    (format!("{}.", node.id), Ranges::between(node.last + 1, most))
                };
                Expect::Ids(parents.map(id).collect())
            }
            Field::Start | Field::Finish => Expect::Number(self.times(field)),
        }
    }

    fn times(&self, field: Field) -> Ranges {
        let mut times = Ranges::default();
        let mut add = |earliest: u32, latest: u32| match field {
            Field::Start => times.add(earliest, self.row.finish.unwrap_or(latest)),
            _ => times.add(self.row.start.unwrap_or(earliest), latest),
        };
        if self.path.is_empty() {
            add(0, self.latency);
        }
        for place in self.parents() {
            add(self.path[place].start, self.path[place].finish);
        }
        times
    }

    /// After a field.
    fn end_field(&mut self) -> At {
        if !self.open().is_empty() {
            return At::FieldEnd;
        }
        let row = std::mem::take(&mut self.row);
        let (parent, number) = row.id.unwrap_or((None, 0));
        let id = match parent {
            Some(place) => {
                self.path.truncate(place + 1);
                self.path[place].last = number;
                self.path[place].id.child(number)
            }
            None => EdgeId::root(),
        };
        self.path.push(Node {
            id,
            destination: row.destination.unwrap_or_default(),
            start: row.start.unwrap_or(0),
            finish: row.finish.unwrap_or(0),
            last: 0,
        });
        self.deepest = self.deepest.max(self.path.len() as u32);
        self.left = self.left.saturating_sub(1);
        At::RowEnd
    }

    /// Whether another call may follow.
    fn may_go_on(&self) -> bool {
        self.left > 0 && self.depth != Some(1)
    }

    /// Whether the graph may end here, as far as it may go on.
    fn may_end(&self) -> bool {
        !self.exact && self.depth.is_none_or(|depth| self.deepest >= depth)
    }
}

impl Grammar for Table {
    fn expect(&self) -> Expect {
        let literal = |text: &str| Expect::Literals(vec![text.to_owned()]);
        match self.at {
            At::Open => literal("("),
            At::Key => {
                Expect::Literals(self.open().into_iter().map(|(_, key)| key.into()).collect())
            }
            At::Value(field) => self.value(field),
            At::Unit => literal(" milliseconds"),
            At::FieldEnd => literal(","),
            At::RowEnd => {
                let (more, end) = (")\n(", ")\n</edges>");
                match (self.may_go_on(), self.may_end()) {
                    (true, true) => Expect::Literals(vec![more.to_owned(), end.to_owned()]),
                    (true, false) => literal(more),
                    (false, _) => literal(end),
                }
            }
            At::End => Expect::End,
        }
    }

    fn accept(&mut self, piece: Piece<'_>) {
        self.at = match (&self.at, piece) {
            (At::Open | At::FieldEnd, _) => At::Key,
            (At::Key, Piece::Literal(index)) => At::Value(self.open()[index].0),
            (At::Value(field), piece) => {
                let field = *field;
                match (field, piece) {
                    (Field::Source, Piece::Name(text)) => self.row.source = Some(text.to_owned()),
                    (Field::Source, _) => self.row.source = Some(USER.to_owned()),
                    (Field::Destination, Piece::Name(text)) => {
                        self.row.destination = Some(text.to_owned());
                    }
                    (Field::Kind, _) => self.row.kind = true,
                    (Field::Id, Piece::Id(index, number)) => {
                        self.row.id = Some((Some(self.parents()[index]), number));
                    }
                    (Field::Id, _) => self.row.id = Some((None, 0)),
                    (Field::Start, Piece::Number(value)) => self.row.start = Some(value),
                    (Field::Finish, Piece::Number(value)) => self.row.finish = Some(value),
                    _ => {}
                }
                match field {
                    Field::Start | Field::Finish => At::Unit,
                    _ => self.end_field(),
                }
            }
            (At::Unit, _) => self.end_field(),
            (At::RowEnd, Piece::Literal(index)) => {
                let goes_on = self.may_go_on() && index == 0;
                if goes_on { At::Key } else { At::End }
            }
            (at, _) => at.clone(),
        };
    }
}
