//! From documents to batches: which tokens a training step sees.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::random;

/// One training text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub tokens: Vec<u32>,
    /// Index of the first token that is a target; 0 and 1 make all tokens but the first targets.
    pub loss_from: usize,
}

/// Where documents come from. They may differ from epoch to epoch (fresh shuffles of the same
/// graph), but not from call to call.
pub trait Corpus: Sync {
    /// Documents per epoch.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn document(&self, epoch: u64, index: usize) -> Document;
}

/// Documents side by side, padded at the end to the longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub rows: usize,
    /// Positions per row.
    pub length: usize,
    /// Inputs, row-major `[rows, length]`.
    pub tokens: Vec<u32>,
    /// The token after each input, or `None` where none is to be learnt.
    pub targets: Vec<Option<u32>>,
    /// Tokens of the documents in it, padding not counted.
    pub count: u64,
}

impl Batch {
    /// The last token of a document is only a target.
    pub fn new(documents: &[Document]) -> Self {
        let length = documents.iter().map(|d| d.tokens.len().saturating_sub(1)).max().unwrap_or(0);
        let mut batch = Self {
            rows: documents.len(),
            length,
            tokens: Vec::with_capacity(documents.len() * length),
            targets: Vec::with_capacity(documents.len() * length),
            count: 0,
        };
        for document in documents {
            batch.count += document.tokens.len() as u64;
            for position in 0..length {
                let target = document.tokens.get(position + 1).copied();
                let input = document.tokens.get(position).filter(|_| target.is_some());
                batch.tokens.push(input.copied().unwrap_or(0));
                batch.targets.push(target.filter(|_| position + 1 >= document.loss_from));
            }
        }
        batch
    }
}

/// Batches drawn together: documents of similar length share a batch, so that hardly anything is
/// padding, and the batches of a window come in random order.
const WINDOW: u64 = 32;

/// Place in the stream of batches: everything needed to go on after an interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    /// First document, in the epoch's order, of the current window.
    pub window: u64,
    /// Batches of the window already taken.
    pub taken: u64,
}

/// The endless stream of batches of a corpus.
pub struct Batches<'a> {
    corpus: &'a dyn Corpus,
    seed: u64,
    /// Tokens of a batch, padding counted.
    batch_tokens: usize,
    context: usize,
    position: Position,
    order: Vec<usize>,
    /// The window's batches, last first, and the document after it.
    waiting: Vec<Vec<Document>>,
    window_end: u64,
}

impl<'a> Batches<'a> {
    /// The stream from `position` on. Documents over `context` tokens are left out.
    pub fn new(
        corpus: &'a dyn Corpus,
        seed: u64,
        batch_tokens: usize,
        context: usize,
        position: Position,
    ) -> Self {
        let mut batches = Self {
            corpus,
            seed,
            batch_tokens,
            context,
            position,
            order: Vec::new(),
            waiting: Vec::new(),
            window_end: position.window,
        };
        batches.shuffle();
        batches.fill();
        for _ in 0..position.taken {
            batches.waiting.pop();
        }
        batches
    }

    /// Where the stream goes on after the batches taken so far.
    pub fn position(&self) -> Position {
        self.position
    }

    fn shuffle(&mut self) {
        self.order = (0..self.corpus.len()).collect();
        let mut rng = random::stream(self.seed, "order of documents", &[self.position.epoch]);
        self.order.shuffle(&mut rng);
    }

    /// Reads the window at the current position and cuts it into batches.
    fn fill(&mut self) {
        let mut documents = Vec::new();
        let mut tokens = 0;
        let mut next = self.position.window as usize;
        while tokens < self.batch_tokens * WINDOW as usize && next < self.order.len() {
            let document = self.corpus.document(self.position.epoch, self.order[next]);
            next += 1;
            if document.tokens.len() > 1 && document.tokens.len() <= self.context {
                tokens += document.tokens.len();
                documents.push(document);
            }
        }
        self.window_end = next as u64;
        documents.sort_by_key(|document| document.tokens.len());
        let mut batch: Vec<Document> = Vec::new();
        for document in documents {
            let padded = (batch.len() + 1) * document.tokens.len();
            if padded > self.batch_tokens && !batch.is_empty() {
                self.waiting.push(std::mem::take(&mut batch));
            }
            batch.push(document);
        }
        if !batch.is_empty() {
            self.waiting.push(batch);
        }
        let path = [self.position.epoch, self.position.window];
        self.waiting.shuffle(&mut random::stream(self.seed, "order of batches", &path));
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    /// `None` only if the corpus has nothing that can be learnt.
    fn next(&mut self) -> Option<Batch> {
        let mut empty_windows = 0;
        loop {
            if let Some(documents) = self.waiting.pop() {
                self.position.taken += 1;
                return Some(Batch::new(&documents));
            }
            self.position.window = self.window_end;
            self.position.taken = 0;
            if self.position.window as usize >= self.order.len() {
                self.position.epoch += 1;
                self.position.window = 0;
                empty_windows += 1;
                if empty_windows > 1 {
                    return None;
                }
                self.shuffle();
            }
            self.fill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(usize);

    impl Corpus for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn document(&self, epoch: u64, index: usize) -> Document {
            let length = 2 + (index * 7) % 30;
            Document { tokens: vec![index as u32 + epoch as u32 * 1000; length], loss_from: 0 }
        }
    }

    #[test]
    fn an_epoch_holds_every_document_once() {
        let batches = Batches::new(&Numbers(300), 1, 128, 64, Position::default());
        let mut seen = Vec::new();
        let (mut padding, mut places) = (0, 0);
        for batch in batches {
            assert!(batch.tokens.len() <= 128);
            padding += batch.targets.iter().filter(|t| t.is_none()).count();
            places += batch.tokens.len();
            if batch.tokens[0] >= 1000 {
                break;
            }
            seen.extend(batch.tokens.chunks(batch.length).map(|row| row[0]));
        }
        assert!(padding * 10 <= places, "{padding} of {places}");
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<u32>>());
    }

    #[test]
    fn a_stream_goes_on_where_it_stopped() {
        let corpus = Numbers(100);
        let mut whole = Batches::new(&corpus, 1, 64, 64, Position::default());
        for _ in 0..90 {
            whole.next();
        }
        let rest = Batches::new(&corpus, 1, 64, 64, whole.position());
        assert_eq!(rest.take(50).collect::<Vec<_>>(), whole.take(50).collect::<Vec<_>>());
    }

    #[test]
    fn targets_start_where_the_loss_does() {
        let document = Document { tokens: vec![1, 2, 3, 4], loss_from: 2 };
        let short = Document { tokens: vec![5, 6], loss_from: 0 };
        let batch = Batch::new(&[document, short]);
        assert_eq!(batch.tokens, [1, 2, 3, 5, 0, 0]);
        assert_eq!(batch.targets, [None, Some(3), Some(4), Some(6), None, None]);
    }

    #[test]
    fn nothing_to_learn_ends_the_stream() {
        assert!(Batches::new(&Numbers(0), 1, 64, 64, Position::default()).next().is_none());
    }
}
