//! GGUF files, versions 2 and 3: metadata, and where the tensors lie.
//!
//! Source: `docs/gguf.md` of ggml. A file is hostile input: every count and length is held against
//! what is left of the file before memory is taken for it.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::quantised::Format;
use crate::error::UserError;

const MAGIC: [u8; 4] = *b"GGUF";
/// Longest header that is read, bytes; vocabularies of 260,000 tokens take 20 MB.
const MAX_HEADER: u64 = 256 << 20;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Where tensors begin if the file does not say: multiples of this.
const ALIGNMENT: u64 = 32;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Whole numbers of every width.
    Whole(i128),
    Float(f64),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    /// An array of numbers, as in the file.
    Numbers(Scalar, Vec<u8>),
}

/// Types of numbers, with GGUF's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

impl Scalar {
    fn of_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The number in `bytes`, [`Scalar::size`] of them.
    fn read(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let whole = u64::from_le_bytes(wide);
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Value::Whole(whole.into()),
            Self::I8 => Value::Whole((whole as i8).into()),
            Self::I16 => Value::Whole((whole as i16).into()),
            Self::I32 => Value::Whole((whole as i32).into()),
            Self::I64 => Value::Whole((whole as i64).into()),
            Self::F32 => Value::Float(f32::from_bits(whole as u32).into()),
            Self::F64 => Value::Float(f64::from_bits(whole)),
            Self::Bool => Value::Flag(whole != 0),
        }
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    pub format: Format,
    /// Row-major: the last dimension lies side by side.
    pub shape: Vec<usize>,
    /// From the start of the file.
    offset: u64,
    bytes: usize,
}

/// A file whose header has been read and checked.
pub struct Gguf<R> {
    path: PathBuf,
    source: R,
    pub version: u32,
    metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl<R: BufRead + Seek> Gguf<R> {
    /// Reads the header of `source`, `size` bytes long; `path` is for messages.
    ///
    /// # Errors
    /// Anything that is not a GGUF file of version 2 or 3 with tensors inside the file.
    pub fn read(path: &Path, source: R, size: u64) -> Result<Self> {
        let mut header = Header { path, source, at: 0, end: size.min(MAX_HEADER) };
        if header.array::<4>("magic")? != MAGIC {
            return Err(header.wrong("header", "this is not a GGUF file").into());
        }
        let version = header.u32("version")?;
        if !(2..=3).contains(&version) {
            let message = match version.swap_bytes() {
                1..=3 => format!(
                    "version {version}: this file is big-endian, which is not supported: convert \
                     the model for little-endian machines"
                ),
                _ => format!("GGUF version {version} is not supported: 2 and 3 are"),
            };
            return Err(header.wrong("header", message).into());
        }
        let (tensor_count, entries) = (header.u64("tensor count")?, header.u64("entry count")?);
        // An entry takes 13 bytes or more, a tensor 24.
        header.fits(entries, 13, "metadata entries")?;
        header.fits(tensor_count, 24, "tensors")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = header.text("key")?;
            let value = header.value(&key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(header.wrong(format!("metadata {key}"), "occurs twice").into());
            }
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = header.text("tensor name")?;
            let tensor = header.tensor(&name)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(header.wrong(format!("tensor {name}"), "occurs twice").into());
            }
        }
        let (at, source) = (header.at, header.source);
        let mut file = Self { path: path.to_owned(), source, version, metadata, tensors };
        file.check_whole()?;
        file.place_tensors(at, size)?;
        Ok(file)
    }

    /// Refuses one of the parts that a large model is split into.
    fn check_whole(&self) -> Result<()> {
        let Some(count) = self.number("split.count")?.filter(|count| *count > 1) else {
            return Ok(());
        };
        let number = self.number("split.no")?.unwrap_or(0).saturating_add(1);
        let message = format!(
            "is {count}: this is part {number} of {count}: merge the parts into one file first \
             (llama.cpp's `llama-gguf-split --merge`)"
        );
        Err(self.wrong("metadata split.count", message).into())
    }

    /// Makes offsets count from the start of the file, and checks that tensors lie inside it and
    /// apart from each other.
    fn place_tensors(&mut self, header: u64, size: u64) -> Result<()> {
        let alignment = self.number("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            let message = format!("{alignment} is not a power of two up to 2^20");
            return Err(self.wrong("metadata general.alignment", message).into());
        }
        let start = header.next_multiple_of(alignment);
        let path = &self.path;
        let mut places = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &mut self.tensors {
            let outside = || {
                let message = format!("ends beyond the file's {size} bytes: it is incomplete");
                UserError::input(path, format!("tensor {name}"), message)
            };
            if !tensor.offset.is_multiple_of(alignment) {
                let offset = tensor.offset;
                let message = format!(
                    "begins at {offset}, which is no multiple of the alignment {alignment}"
                );
                return Err(UserError::input(path, format!("tensor {name}"), message).into());
            }
            tensor.offset = start.checked_add(tensor.offset).ok_or_else(outside)?;
            let end = tensor.offset.checked_add(tensor.bytes as u64).ok_or_else(outside)?;
            if end > size {
                return Err(outside().into());
            }
            places.push((tensor.offset, end, name));
        }
        places.sort();
        for pair in places.windows(2) {
            if pair[1].0 < pair[0].1 {
                let message = format!("overlaps tensor {}", pair[0].2);
                return Err(UserError::input(path, format!("tensor {}", pair[1].2), message).into());
            }
        }
        // Parts that were joined with `cat` would lose all but the first.
        if let Some((_, end, name)) = places.last()
            && size > end.next_multiple_of(alignment)
        {
            let message = format!(
                "{} bytes follow behind the last tensor, {name}: are these several files in one?",
                size - end
            );
            return Err(UserError::input(path, format!("byte {end}"), message).into());
        }
        Ok(())
    }

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    /// A file that has become shorter.
    pub fn tensor(&mut self, name: &str) -> Result<Vec<f32>> {
        let Some(TensorInfo { format, offset, bytes, .. }) = self.tensors.get(name) else {
            return Err(self.wrong(format!("tensor {name}"), "is missing").into());
        };
        let cannot = |error| UserError::io(&self.path, "cannot be read", error);
        self.source.seek(SeekFrom::Start(*offset)).map_err(cannot)?;
        let mut data = vec![0; *bytes];
        self.source.read_exact(&mut data).map_err(cannot)?;
        Ok(format.decode(&data))
    }
}

impl<R> Gguf<R> {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn wrong(&self, place: impl Into<String>, message: impl Into<String>) -> UserError {
        UserError::input(&self.path, place, message)
    }

    fn mistyped(&self, key: &str, expected: &str) -> UserError {
        self.wrong(format!("metadata {key}"), format!("is not {expected}"))
    }

    /// Whether a value is −1, as a signed number or in the bits of an unsigned one.
    pub fn minus_one(&self, key: &str) -> bool {
        let bits = [-1, u32::MAX.into(), u64::MAX.into()];
        matches!(self.metadata.get(key), Some(Value::Whole(value)) if bits.contains(value))
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// A value of another type, also of the functions that follow.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Whole(value)) if u64::try_from(*value).is_ok() => Ok(Some(*value as u64)),
            Some(_) => Err(self.mistyped(key, "a whole number").into()),
        }
    }

    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(Value::Whole(value)) => Ok(Some(*value as f64)),
            Some(_) => Err(self.mistyped(key, "a number").into()),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Flag(value)) => Ok(Some(*value)),
            Some(_) => Err(self.mistyped(key, "true or false").into()),
        }
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(_) => Err(self.mistyped(key, "a text").into()),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Texts(value)) => Ok(Some(value)),
            Some(_) => Err(self.mistyped(key, "a list of texts").into()),
        }
    }

    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Numbers(scalar, bytes)) => {
                let values =
                    bytes.chunks_exact(scalar.size()).map(|bytes| match scalar.read(bytes) {
                        Value::Float(value) => value,
                        Value::Whole(value) => value as f64,
                        _ => f64::NAN,
                    });
                Ok(Some(values.collect()))
            }
            Some(_) => Err(self.mistyped(key, "a list of numbers").into()),
        }
    }
}

/// The header while it is read.
struct Header<'a, R> {
    path: &'a Path,
    source: R,
    /// Bytes read so far, and where reading must end.
    at: u64,
    end: u64,
}

impl<R: BufRead> Header<'_, R> {
    fn wrong(&self, place: impl Into<String>, message: impl Into<String>) -> UserError {
        UserError::input(self.path, place, message)
    }

    /// Checks that `count` things of at least `size` bytes each can still follow.
    fn fits(&self, count: u64, size: u64, what: &str) -> Result<()> {
        let left = self.end - self.at;
        if count > left / size {
            let message =
                format!("{count} {what} cannot follow in the {left} bytes that are left: damaged");
            return Err(self.wrong(format!("byte {}", self.at), message).into());
        }
        Ok(())
    }

    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        self.fits(count, 1, &format!("bytes of {what}"))?;
        let mut bytes = vec![0; count as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.fits(N as u64, 1, &format!("bytes of {what}"))?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let cannot = |error| UserError::io(self.path, "cannot be read", error);
        self.source.read_exact(bytes).map_err(cannot)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.u64(what)?;
        let place = format!("byte {}", self.at);
        let bytes = self.bytes(length, what)?;
        // Tokens of damaged vocabularies must not pass for each other.
        String::from_utf8(bytes)
            .map_err(|_| self.wrong(place, format!("{what} is not UTF-8")).into())
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        match self.u32(key)? {
            TEXT => Ok(Value::Text(self.text(key)?)),
            ARRAY => self.list(key),
            code => {
                let scalar = self.scalar(code, key)?;
                let bytes = self.bytes(scalar.size() as u64, key)?;
                Ok(scalar.read(&bytes))
            }
        }
    }

    fn scalar(&self, code: u32, key: &str) -> Result<Scalar> {
        Scalar::of_code(code).ok_or_else(|| {
            self.wrong(format!("metadata {key}"), format!("has unknown type {code}")).into()
        })
    }

    fn list(&mut self, key: &str) -> Result<Value> {
        let code = self.u32(key)?;
        let count = self.u64(key)?;
        if code == TEXT {
            self.fits(count, 8, &format!("texts of {key}"))?;
            return Ok(Value::Texts((0..count).map(|_| self.text(key)).collect::<Result<_>>()?));
        }
        if code == ARRAY {
            let message = "is a list of lists, which is not supported";
            return Err(self.wrong(format!("metadata {key}"), message).into());
        }
        let scalar = self.scalar(code, key)?;
        let size = scalar.size() as u64;
        self.fits(count, size, &format!("numbers of {key}"))?;
        Ok(Value::Numbers(scalar, self.bytes(count * size, key)?))
    }

    /// A tensor's description; its offset still counts from the start of the data.
    fn tensor(&mut self, name: &str) -> Result<TensorInfo> {
        let place = || format!("tensor {name}");
        let dimensions = self.u32("dimensions")?;
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            let message = format!("has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}");
            return Err(self.wrong(place(), message).into());
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            // The file has the dimension that lies side by side first.
            shape.insert(0, self.u64("dimension")? as usize);
        }
        let format =
            Format::of_ggml(self.u32("format")?).map_err(|message| self.wrong(place(), message))?;
        let offset = self.u64("offset")?;
        // Blocks do not reach from one row into the next.
        let row = shape.last().copied().unwrap_or(0);
        let values = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let bytes = values.filter(|_| format.bytes(row).is_some()).and_then(|v| format.bytes(v));
        let Some(bytes) = bytes else {
            let message = format!("shape {shape:?} is no whole number of {} blocks", format.name());
            return Err(self.wrong(place(), message).into());
        };
        Ok(TensorInfo { format, shape, offset, bytes })
    }
}
