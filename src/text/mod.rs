//! Text formats of call graphs, their parsers, and the tokenizer.

pub mod name;
pub mod parse;
pub mod recursive;
mod tokenizer;

#[cfg(test)]
mod tests;

pub use tokenizer::Tokenizer;
