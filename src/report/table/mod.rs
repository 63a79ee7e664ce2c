//! Tables of measured numbers, written as CSV, Markdown and LaTeX.

mod csv;
mod latex;
mod markdown;

use crate::number;
pub use markdown::{code, escape as escape_markdown, link};

/// Side to which a column's cells are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Heading of a column and what its cells hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    /// Shown behind the name; empty for none. `%` stands for shares, which CSV keeps as fractions.
    pub unit: String,
    pub align: Align,
    /// Cells carry an interval: CSV gives it two columns of its own.
    pub interval: bool,
}

impl Column {
    /// Words, set left.
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), unit: String::new(), align: Align::Left, interval: false }
    }

    /// Numbers without interval, set right; `unit` may be empty.
    pub fn number(name: impl Into<String>, unit: &str) -> Self {
        Self { align: Align::Right, unit: unit.to_owned(), ..Self::text(name) }
    }

    /// Numbers with an interval.
    pub fn estimate(name: impl Into<String>, unit: &str) -> Self {
        Self { interval: true, ..Self::number(name, unit) }
    }

    /// Shares with an interval, in per cent.
    pub fn share(name: impl Into<String>) -> Self {
        Self::estimate(name, "%")
    }

    /// Name with unit, as printed.
    fn heading(&self) -> String {
        if self.unit.is_empty() {
            self.name.clone()
        } else {
            format!("{} ({})", self.name, self.unit)
        }
    }
}

/// One cell. NaN as a value prints as `n/a`; NaN as `low` leaves the interval out.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Integer(u64),
    Number {
        value: f64,
        low: f64,
        high: f64,
    },
    /// A fraction in [0, 1], printed in per cent.
    Share {
        value: f64,
        low: f64,
        high: f64,
    },
    /// The run behind the cell failed, for this reason; empty where the row or a note gives it.
    Failed(String),
    /// There is no such number: not asked for, or not defined.
    Missing,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number without interval.
    pub fn number(value: f64) -> Self {
        Self::Number { value, low: f64::NAN, high: f64::NAN }
    }

    /// Value and interval, as printed: `76.8 (75.1–78.4)`. `None` for cells that are not numbers.
    fn printed(&self) -> Option<String> {
        let (value, low, high, texts) = match *self {
            Self::Number { value, low, high } => {
                (value, low, high, [value, low, high].map(|x| number::print_beside(value, x)))
            }
            Self::Share { value, low, high } => {
                (value, low, high, [value, low, high].map(number::percent))
            }
            _ => return None,
        };
        let [text, from, to] = texts;
        let interval = !value.is_nan() && !low.is_nan() && !high.is_nan();
        // A dash before a minus could not be read.
        let dash = if low < 0.0 || high < 0.0 { " to " } else { "–" };
        Some(if interval { format!("{text} ({from}{dash}{to})") } else { text })
    }
}

/// A titled table with notes. Every row has one cell per column.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// What a reader must know: labels of the dataset, how many seeds and graphs.
    pub notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "one cell per column in `{}`", self.title);
        self.rows.push(row);
    }

    /// Notes and title as `# ` comment lines, then a header and the rows. Numbers have six
    /// significant digits, shares are fractions; a column with intervals is followed by `… low`
    /// and `… high`. A failed cell is `failed: reason`, a missing one `n/a`.
    ///
    /// Texts are whole, but what does not print, and what would make a text a formula in a
    /// spreadsheet, stands as `\u{…}`, and so does the backslash of a text that holds `\u{` itself:
    /// reading `\u{HEX}` as the character of that number gives the text back.
    pub fn to_csv(&self) -> String {
        csv::write(self)
    }

    /// A pipe table under a heading, padded so that its source can be read too. Texts are shown as
    /// [`crate::display`] does: long names are cut.
    pub fn to_markdown(&self) -> String {
        markdown::write(self)
    }

    /// A `table` environment in booktabs style; needs the packages booktabs and graphicx only. Texts
    /// are shown as [`crate::display`] does: long names are cut.
    pub fn to_latex(&self) -> String {
        latex::write(self)
    }
}

/// A failed cell: the word, and the reason unless another place gives it.
fn failed(word: &str, reason: &str) -> String {
    if reason.is_empty() { word.to_owned() } else { format!("{word}: {reason}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::display;
    use crate::testing::{HOSTILE_NAMES, hostile_names};

    fn example() -> Table {
        let mut table = Table::new(
            "Accuracy & more",
            vec![
                Column::text("generator"),
                Column::number("parameters", ""),
                Column::share("accuracy"),
                Column::estimate("KL", "nats"),
            ],
        );
        table.push(vec![
            Cell::text("recursive_llm"),
            Cell::Integer(1_234_567),
            Cell::Share { value: 2.0 / 3.0, low: 0.5, high: 0.8 },
            Cell::Number { value: 0.16, low: 0.1234567, high: 1.0 },
        ]);
        let reason = "seed 1: loss is not finite\nat step 7 | 50% of 100";
        table.push(vec![
            Cell::text("a|b, \"c\" ~x^2\\"),
            Cell::Missing,
            Cell::Failed(reason.into()),
            Cell::number(f64::NAN),
        ]);
        table.push(vec![
            Cell::text("half #1"),
            Cell::Integer(0),
            Cell::Share { value: 1.0, low: f64::NAN, high: f64::NAN },
            Cell::number(3.84),
        ]);
        table.notes.push("2 seeds, 1,000 graphs each".into());
        table.notes.push("times drawn from `other`, not measured".into());
        table
    }

    #[test]
    fn negative_ends_are_told_apart() {
        let cell = Cell::Number { value: -1.5, low: -2.0, high: 1.25 };
        assert_eq!(cell.printed().unwrap(), "-1.50 (-2.00 to 1.25)");
    }

    #[test]
    fn csv() {
        insta::assert_snapshot!(example().to_csv());
    }

    #[test]
    fn markdown() {
        insta::assert_snapshot!(example().to_markdown());
    }

    #[test]
    fn latex() {
        insta::assert_snapshot!(example().to_latex());
    }

    /// A table whose title, headings, notes, cells and reasons are all hostile.
    fn hostile() -> Table {
        let long = "long".repeat(2_500);
        let names = HOSTILE_NAMES.iter().copied().chain([long.as_str()]);
        let mut table = Table::new(
            HOSTILE_NAMES.concat(),
            vec![
                Column::text("a|b\n[c"),
                Column::number("=1+1\0", "\u{202e}"),
                Column::text("end"),
            ],
        );
        for name in names {
            table.push(vec![Cell::text(name), Cell::Failed(name.into()), Cell::text("end")]);
            table.notes.push(format!("Dataset `{name}`."));
        }
        table
    }

    #[test]
    fn hostile_names_in_every_format() {
        let table = hostile();
        let formats = [table.to_csv(), table.to_markdown(), table.to_latex()];
        for text in &formats {
            assert!(text.chars().all(|c| c == '\n' || display::prints(c)), "{text}");
        }
        let [_, markdown, latex] = &formats;
        // Each row is a line of three cells, and only what the table itself writes is markup.
        let lines = markdown.lines().filter(|line| line.starts_with('|'));
        for line in lines {
            let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
            assert_eq!(bars, 4, "{line}");
        }
        assert!(markdown.lines().all(|line| line.chars().count() < 2_000));
        let plain = markdown.replace("\\\\", "");
        for opener in ["<script", "[", "![", "](", "&lt;", "$x", "~~"] {
            let bare = plain.match_indices(opener).filter(|(at, _)| !plain[..*at].ends_with('\\'));
            assert_eq!(bare.count(), 0, "{opener}");
        }
        assert!(!latex.contains("\\input") && !latex.contains("\\[1ex]"));
        insta::assert_snapshot!("hostile-csv", formats[0].replace(&"long".repeat(2_500), "long…"));
        insta::assert_snapshot!("hostile-md", markdown);
        insta::assert_snapshot!("hostile-tex", latex);
    }

    proptest! {
        /// What a name is can be told from its field in a CSV, and no field is a formula.
        #[test]
        fn csv_loses_nothing(name in prop_oneof![any::<String>(), hostile_names()]) {
            let mut table = Table::new("", vec![Column::text("name")]);
            table.push(vec![Cell::text(name.clone())]);
            let text = table.to_csv();
            let mut reader =
                ::csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
            let row = reader.records().next().expect("a row").expect("a row");
            let field = row[0].to_owned();
            prop_assert!(!field.starts_with(['=', '@', '\t', '\r', '\n']));
            prop_assert!(!field.starts_with("+1+") && !field.starts_with("-2+"));
            let mut parts = field.split("\\u{");
            let mut read = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (number, rest) = part.split_once('}').expect("the end of an escape");
                let number = u32::from_str_radix(number, 16).expect("a number");
                read.push(char::from_u32(number).expect("a character"));
                read.push_str(rest);
            }
            prop_assert_eq!(read, name);
        }
    }

    #[test]
    fn csv_reads_back() {
        let text = example().to_csv();
        let mut reader =
            ::csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(&rows[1][0], "a|b, \"c\" ~x^2\\");
        assert_eq!(&rows[0][2], "0.666667");
    }
}
