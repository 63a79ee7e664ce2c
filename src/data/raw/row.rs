use crate::data::table::{BadValue, shown};
use crate::graph::{CallType, USER};

/// Which table the rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `CallGraph` of 2022: a column for the service; names are `MS_` or `S_` and a number.
    V2022,
    /// `MSCallGraph` of 2021: no service; hashed names; both sides of a call log it, and the
    /// downstream side's `rt` is negative.
    V2021,
}

/// Positions in [`Flavour::columns`].
pub const TIMESTAMP: usize = 0;
pub const TRACE: usize = 1;
pub const ID: usize = 2;
pub const KIND: usize = 3;
pub const UM: usize = 4;
pub const DM: usize = 5;
pub const RT: usize = 6;
pub const SERVICE: usize = 7;

impl Flavour {
    /// Names of the columns that are read.
    pub fn columns(self) -> [&'static str; 8] {
        match self {
            Self::V2022 => {
                ["timestamp", "traceid", "rpc_id", "rpctype", "um", "dm", "rt", "service"]
            }
            Self::V2021 => {
                ["timestamp", "traceid", "rpcid", "rpctype", "um", "dm", "rt", "interface"]
            }
        }
    }

    /// The name of a service or microservice as graphs have it: numbers of v2022 are padded with
    /// zeros, `MS_` to 5 and `S_` to 9 digits; other names stay as they are.
    pub fn name(self, raw: &str) -> String {
        let padded = |prefix: &str, width: usize| {
            let digits = raw.strip_prefix(prefix)?;
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| format!("{prefix}{digits:0>width$}"))
        };
        match self {
            Self::V2022 => padded("MS_", 5).or_else(|| padded("S_", 9)),
            Self::V2021 => None,
        }
        .unwrap_or_else(|| raw.to_owned())
    }
}

/// One row as read: empty texts stand for missing ones.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    pub timestamp: Option<i64>,
    pub trace: &'a str,
    pub id: &'a str,
    pub kind: &'a str,
    pub um: &'a str,
    pub dm: &'a str,
    pub rt: Option<f64>,
    /// v2022: the service. v2021: the interface, which names the service for the root call.
    pub service: &'a str,
}

/// How far a row comes; later steps of the funnel count it only if it passed the earlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Passed<'a> {
    Read,
    /// Its type is one of the five.
    Type,
    /// Both microservices are known, too.
    Microservices,
    /// It has a response time, too: the row is kept.
    All(KeptRow<'a>),
}

/// A row that takes part in its trace's graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptRow<'a> {
    pub timestamp: i64,
    pub rt: u32,
    /// The called side logged it, not the caller (v2021: `rt` is negative).
    pub by_server: bool,
    pub kind: CallType,
    pub id: &'a str,
    pub um: &'a str,
    pub dm: &'a str,
    pub service: &'a str,
}

/// Longest text that a row may have in a field; longer ones are another column's content or an
/// attack.
const MAX_FIELD_BYTES: usize = 4096;

impl<'a> RawRow<'a> {
    /// How far the row comes.
    ///
    /// # Errors
    /// A value that cannot be one of its column.
    pub fn classify(&self, flavour: Flavour) -> Result<Passed<'a>, BadValue> {
        let columns = flavour.columns();
        let texts = [
            (TRACE, self.trace),
            (ID, self.id),
            (KIND, self.kind),
            (UM, self.um),
            (DM, self.dm),
            (SERVICE, self.service),
        ];
        for (column, text) in texts {
            if text.len() > MAX_FIELD_BYTES {
                let message = format!("`{}` is longer than {MAX_FIELD_BYTES} bytes", shown(text));
                return Err(BadValue::new(columns[column], message));
            }
        }
        for (column, text) in [(TRACE, self.trace), (ID, self.id)] {
            if text.is_empty() {
                return Err(BadValue::new(columns[column], "has no value"));
            }
        }
        let Some(timestamp) = self.timestamp else {
            return Err(BadValue::new(columns[TIMESTAMP], "has no value"));
        };
        if timestamp < 0 {
            let message = format!("`{timestamp}` is negative");
            return Err(BadValue::new(columns[TIMESTAMP], message));
        }
        let rt = self.response_time(flavour)?;
        let Ok(kind) = self.kind.parse() else { return Ok(Passed::Read) };
        // The entry call of a v2021 trace has no upstream microservice.
        let entry = flavour == Flavour::V2021 && self.id == "0";
        let um = if entry && !known(self.um) { USER } else { self.um };
        if !known(um) || !known(self.dm) {
            return Ok(Passed::Type);
        }
        let Some((rt, by_server)) = rt else { return Ok(Passed::Microservices) };
        let (id, dm) = (self.id, self.dm);
        let service = if known(self.service) { self.service } else { "" };
        Ok(Passed::All(KeptRow { timestamp, rt, by_server, kind, id, um, dm, service }))
    }

    /// The response time, cut to whole milliseconds, and whether the called side measured it.
    fn response_time(&self, flavour: Flavour) -> Result<Option<(u32, bool)>, BadValue> {
        let Some(rt) = self.rt.filter(|rt| !rt.is_nan()) else { return Ok(None) };
        let column = flavour.columns()[RT];
        let by_server = flavour == Flavour::V2021 && rt.is_sign_negative();
        let rt = match flavour {
            Flavour::V2022 if rt < 0.0 => {
                return Err(BadValue::new(column, format!("`{rt}` is negative")));
            }
            _ => rt.abs(),
        };
        if rt >= f64::from(u32::MAX) {
            let message = format!("`{rt}` is not below 2^32 milliseconds");
            return Err(BadValue::new(column, message));
        }
        Ok(Some((rt as u32, by_server)))
    }
}

/// Whether a text names a microservice or service, and is not one of the tables' words for none.
pub(super) fn known(name: &str) -> bool {
    !matches!(name, "" | "UNKNOWN" | "UNAVAILABLE" | "(?)") && !name.eq_ignore_ascii_case("nan")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: RawRow<'static> = RawRow {
        timestamp: Some(1),
        trace: "t",
        id: "0.1",
        kind: "rpc",
        um: "a",
        dm: "b",
        rt: Some(2.0),
        service: "s",
    };

    #[test]
    fn every_spelling_of_an_unknown_microservice_is_unknown() {
        for unknown in ["", "UNKNOWN", "UNAVAILABLE", "(?)", "NAN", "nan", "NaN"] {
            for flavour in [Flavour::V2021, Flavour::V2022] {
                for row in [RawRow { um: unknown, ..ROW }, RawRow { dm: unknown, ..ROW }] {
                    assert_eq!(row.classify(flavour), Ok(Passed::Type), "{unknown}");
                }
            }
            // The entry call of v2021 comes from outside, however its source is written.
            let entry = RawRow { id: "0", um: unknown, service: unknown, ..ROW };
            let Ok(Passed::All(kept)) = entry.classify(Flavour::V2021) else { panic!("{unknown}") };
            assert_eq!((kept.um, kept.service), (USER, ""));
            assert_eq!(entry.classify(Flavour::V2022), Ok(Passed::Type));
        }
        let nancy = RawRow { dm: "nancy", ..ROW };
        assert!(matches!(nancy.classify(Flavour::V2021), Ok(Passed::All(_))));
    }

    #[test]
    fn the_sign_says_who_measured_a_response_time_of_v2021() {
        for (rt, expected) in [
            (9.5, Some((9, false))),
            (-9.5, Some((9, true))),
            (0.0, Some((0, false))),
            (-0.0, Some((0, true))),
            (f64::NAN, None),
        ] {
            let row = RawRow { rt: Some(rt), ..ROW };
            assert_eq!(row.response_time(Flavour::V2021), Ok(expected));
        }
        let row = RawRow { rt: Some(-1.0), ..ROW };
        assert_eq!(row.response_time(Flavour::V2022).unwrap_err().message, "`-1` is negative");
    }
}
