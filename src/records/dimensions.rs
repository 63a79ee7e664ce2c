//! What a number is about: the typed dimensions of a record.

use std::fmt;

use anyhow::{Context, Result};
use polars::prelude::{Column, DataFrame};
use serde::Deserialize;

use crate::graph::{CallType, Communication, Name};

/// Whole numbers that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "u32")]
pub struct Bin {
    pub least: u32,
    /// `None` for all above `least`.
    pub most: Option<u32>,
}

impl Bin {
    pub const fn new(least: u32, most: u32) -> Self {
        Self { least, most: Some(most) }
    }

    /// All numbers from `least` on.
    pub const fn at_least(least: u32) -> Self {
        Self { least, most: None }
    }

    pub fn contains(self, number: u64) -> bool {
        number >= self.least.into() && self.most.is_none_or(|most| number <= most.into())
    }

    /// The number, of a bin of one.
    pub fn single(self) -> Option<u32> {
        self.most.filter(|most| *most == self.least)
    }
}

impl From<u32> for Bin {
    fn from(number: u32) -> Self {
        Self::new(number, number)
    }
}

/// `7`, `2-3` or `16+`.
impl fmt::Display for Bin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.single(), self.most) {
            (Some(number), _) => write!(f, "{number}"),
            (None, Some(most)) => write!(f, "{}-{most}", self.least),
            (None, None) => write!(f, "{}+", self.least),
        }
    }
}

/// The value of a dimension: how it is shown in tests, and its columns in a table.
trait Value: Sized {
    fn text(&self) -> String;
    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column>;
    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>>;
}

impl Value for u32 {
    fn text(&self) -> String {
        self.to_string()
    }

    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column> {
        let values: Vec<Option<u32>> = values.iter().map(|value| value.copied()).collect();
        vec![Column::new(name.into(), values)]
    }

    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>> {
        Ok(frame.column(name)?.u32()?.iter().collect())
    }
}

impl Value for bool {
    fn text(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }

    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column> {
        let values: Vec<Option<bool>> = values.iter().map(|value| value.copied()).collect();
        vec![Column::new(name.into(), values)]
    }

    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>> {
        Ok(frame.column(name)?.bool()?.iter().collect())
    }
}

impl Value for Name {
    fn text(&self) -> String {
        self.to_string()
    }

    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column> {
        let values: Vec<Option<&str>> =
            values.iter().map(|value| value.map(Name::as_str)).collect();
        vec![Column::new(name.into(), values)]
    }

    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>> {
        Ok(frame.column(name)?.str()?.iter().map(|value| value.map(Name::from)).collect())
    }
}

/// The column of a bin's upper end.
fn upper(name: &str) -> String {
    format!("{name}_to")
}

/// Two columns, of which that of the upper end is null where the bin is open.
impl Value for Bin {
    fn text(&self) -> String {
        self.to_string()
    }

    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column> {
        let ends = |end: fn(&Self) -> Option<u32>| -> Vec<Option<u32>> {
            values.iter().map(|value| value.and_then(end)).collect()
        };
        vec![
            Column::new(name.into(), ends(|bin| Some(bin.least))),
            Column::new(upper(name).into(), ends(|bin| bin.most)),
        ]
    }

    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>> {
        let (least, most) = (u32::read(frame, name)?, u32::read(frame, &upper(name))?);
        let ends = least.into_iter().zip(most);
        Ok(ends.map(|(least, most)| least.map(|least| Self { least, most })).collect())
    }
}

/// Columns for source, destination and type.
impl Value for Communication {
    fn text(&self) -> String {
        format!("{}>{}:{}", self.source, self.destination, self.kind)
    }

    fn columns(name: &str, values: &[Option<&Self>]) -> Vec<Column> {
        let part = |part: &str, of: fn(&Self) -> &str| {
            let values: Vec<Option<&str>> = values.iter().map(|value| value.map(of)).collect();
            Column::new(format!("{name}_{part}").into(), values)
        };
        vec![
            part("source", |call| &call.source),
            part("destination", |call| &call.destination),
            part("type", |call| call.kind.as_str()),
        ]
    }

    fn read(frame: &DataFrame, name: &str) -> Result<Vec<Option<Self>>> {
        let part = |part: &str| Name::read(frame, &format!("{name}_{part}"));
        let ends = part("source")?.into_iter().zip(part("destination")?);
        let call = |((source, destination), kind): ((Option<Name>, _), Option<Name>)| {
            let (Some(source), Some(destination), Some(kind)) = (source, destination, kind) else {
                return Ok(None);
            };
            let kind = kind
                .parse::<CallType>()
                .ok()
                .with_context(|| format!("no type of call: {kind}"))?;
            Ok(Some(Self { source, destination, kind }))
        };
        ends.zip(part("type")?).map(call).collect()
    }
}

macro_rules! dimensions {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        /// What a number is about. A dimension that is absent is not looked at: the number is about
        /// all of its values together.
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Dimensions {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        /// All of what was measured: no dimension.
        pub const WHOLE: Dimensions = Dimensions { $($field: None,)* };

        impl Dimensions {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $field(mut self, value: impl Into<$type>) -> Self {
                    self.$field = Some(value.into());
                    self
                }
            )*

            /// One column for each dimension that occurs, or for `every` one, two or three where its
            /// values have parts.
            pub fn columns(all: &[&Self], every: bool) -> Vec<Column> {
                let mut columns = Vec::new();
                $({
                    let values: Vec<_> = all.iter().map(|one| one.$field.as_ref()).collect();
                    if every || values.iter().any(Option::is_some) {
                        columns.extend(<$type as Value>::columns(stringify!($field), &values));
                    }
                })*
                columns
            }

            /// Reads what [`Dimensions::columns`] wrote, row by row.
            ///
            /// # Errors
            /// A column of another type, a type of call that does not exist.
            pub fn read(frame: &DataFrame) -> Result<Vec<Self>> {
                let mut all = vec![WHOLE; frame.height()];
                $(
                    let known = |name: &str| frame.schema().contains(name);
                    if known(stringify!($field)) || known(concat!(stringify!($field), "_type")) {
                        let values = <$type as Value>::read(frame, stringify!($field))?;
                        for (one, value) in all.iter_mut().zip(values) {
                            one.$field = value;
                        }
                    }
                )*
                Ok(all)
            }
        }

        /// `edges=7/depth=3`, for tests and messages; nothing reads it.
        impl fmt::Display for Dimensions {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts = [$(self.$field.as_ref().map(|value| {
                    format!("{}={}", stringify!($field).replace('_', "-"), value.text())
                }),)*];
                f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
            }
        }
    };
}

dimensions! {
    /// What a network or a classifier is trained for.
    task: Name,
    /// Place among the most popular applications, from 1.
    application: u32,
    service: Name,
    /// What a prompt asks for in words, or how graphs are anomalous.
    kind: Name,
    /// Half of a request for two things.
    part: Name,
    /// The right answer to a question.
    answer: Name,
    /// What a question asks for.
    attribute: Name,
    /// What makes two graphs the same, of memorisation.
    attributes: Name,
    /// What makes two graphs the same, of novelty and uniqueness.
    level: Name,
    /// Whose graphs: valid answers or all, or those that a model was trained on or not.
    graphs: Name,
    /// Number of edges.
    edges: Bin,
    depth: Bin,
    /// Training graphs with the num_edges and depth of the prompt.
    train_graphs: Bin,
    group: Name,
    /// First violation of an answer.
    code: Name,
    /// How many microservices are the most called ones.
    k: u32,
    /// Place of a call among the most popular ones, from 1.
    rank: u32,
    /// Real or synthetic.
    side: Name,
    call: Communication,
    /// What a node is, where degrees are counted.
    nodes: Name,
    /// A way to look at a call tree.
    descriptor: Name,
    /// What a quantile is of.
    of: Name,
    quantile: Name,
    /// Two attributes that are correlated.
    pair: Name,
    /// Which sets of real graphs a distance is measured to: all graphs, or equally many.
    sets: Name,
    /// The real graphs that a distance is measured to.
    to: Name,
    /// The graphs that those of the training are told from.
    against: Name,
    /// True probability of a branch.
    probability: Name,
    /// Whether the request was in the prompt.
    asked: bool,
    /// Sampling temperature of a reference row.
    temperature: Name,
    /// Whose numbers these are, where they are not a generator's: real graphs, or a simple rule.
    reference: Name,
}

/// The reference of a perfect generator, which draws from the truth at a `temperature`.
pub const PERFECT: &str = "truth";

impl Dimensions {
    /// The same of a reference row; unchanged for `None`.
    #[must_use]
    pub fn referring(self, reference: Option<&str>) -> Self {
        match reference {
            Some(reference) => self.reference(reference),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hostile_names;

    fn all() -> Vec<Dimensions> {
        let call = Communication {
            source: "a/side=real".into(),
            destination: "b".into(),
            kind: CallType::Rpc,
        };
        vec![
            WHOLE,
            WHOLE.edges(7).depth(Bin::at_least(16)),
            WHOLE.attributes("names").edges(Bin::new(2, 3)).reference("test"),
            WHOLE.rank(1u32).side("real").call(call),
            WHOLE.kind("both").part("uncommon").asked(false),
        ]
    }

    #[test]
    fn dimensions_are_shown_in_one_order() {
        let shown: Vec<String> = all().iter().map(Dimensions::to_string).collect();
        assert_eq!(
            shown,
            [
                "",
                "edges=7/depth=16+",
                "attributes=names/edges=2-3/reference=test",
                "rank=1/side=real/call=a/side=real>b:rpc",
                "kind=both/part=uncommon/asked=no",
            ]
        );
        assert_eq!(WHOLE.train_graphs(Bin::new(1, 4)).to_string(), "train-graphs=1-4");
    }

    proptest! {
        /// Whatever names hold.
        #[test]
        fn columns_read_back((one, other) in (hostile_names(), hostile_names())) {
            let (source, destination) = (one.as_str().into(), other.as_str().into());
            let call = Communication { source, destination, kind: CallType::Mq };
            let mut all = all();
            all.extend([WHOLE.call(call), WHOLE.service(one.as_str()).application(1u32)]);
            for every in [false, true] {
                let columns = Dimensions::columns(&all.iter().collect::<Vec<_>>(), every);
                let frame = DataFrame::new(all.len(), columns).expect("a table");
                prop_assert_eq!(Dimensions::read(&frame).expect("dimensions"), all.clone());
            }
        }
    }
}
