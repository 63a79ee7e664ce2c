//! From documents to batches: which tokens a training step sees.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::random;

/// One training text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    pub tokens: Vec<u32>,
    /// Index of the first token that is a target; 0 and 1 make all tokens but the first targets.
    pub loss_from: usize,
    /// Weight of each token in the training loss; empty weighs all alike.
    pub weights: Vec<f32>,
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

/// Documents packed one after another, without padding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Batch {
    /// Inputs: the tokens of each document but its last, which is only a target.
    pub tokens: Vec<u32>,
    /// The token after each input, or `None` where none is to be learnt.
    pub targets: Vec<Option<u32>>,
    /// Weight of each target in the training loss.
    pub weights: Vec<f32>,
    /// Inputs of each document.
    pub lengths: Vec<usize>,
    /// Tokens of the documents, the last ones included.
    pub count: u64,
}

/// Neighbouring documents of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part<'a> {
    pub tokens: &'a [u32],
    pub targets: &'a [Option<u32>],
    pub weights: &'a [f32],
    pub lengths: &'a [usize],
}

impl Batch {
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let mut batch = Self::default();
        documents.into_iter().for_each(|document| batch.push(document));
        batch
    }

    fn push(&mut self, document: &Document) {
        self.count += document.tokens.len() as u64;
        self.lengths.push(document.tokens.len().saturating_sub(1));
        for (position, pair) in document.tokens.windows(2).enumerate() {
            self.tokens.push(pair[0]);
            self.targets.push(Some(pair[1]).filter(|_| position + 1 >= document.loss_from));
            self.weights.push(document.weights.get(position + 1).copied().unwrap_or(1.0));
        }
    }

    /// Tokens to be learnt.
    pub fn target_count(&self) -> usize {
        self.targets.iter().flatten().count()
    }

    /// What makes a mean of the weighted sum of losses over the tokens to be learnt.
    pub fn mean_scale(&self) -> f32 {
        let weights = self.targets.iter().zip(&self.weights);
        let weights = weights.filter(|(target, _)| target.is_some());
        match weights.map(|(_, weight)| f64::from(*weight)).sum::<f64>() {
            weight if weight > 0.0 => 1.0 / weight as f32,
            _ => 1.0,
        }
    }

    /// Cuts the batch between documents into parts of about `size` inputs.
    pub fn parts(&self, size: usize) -> Vec<Part<'_>> {
        let total = self.tokens.len();
        let count = ((total + size / 2) / size).max(1);
        let (mut parts, mut first, mut start, mut end) = (Vec::new(), 0, 0, 0);
        for (index, length) in self.lengths.iter().enumerate() {
            end += length;
            let full = end * count >= (parts.len() + 1) * total;
            if end > start && (full || end == total) {
                parts.push(Part {
                    tokens: &self.tokens[start..end],
                    targets: &self.targets[start..end],
                    weights: &self.weights[start..end],
                    lengths: &self.lengths[first..=index],
                });
                (first, start) = (index + 1, end);
            }
        }
        parts
    }

    /// The documents as rows of equal length, for devices that want rectangles: each rectangle
    /// holds documents of similar length, and at most `most` positions unless one row has more.
    pub fn rectangles(&self, most: Option<usize>) -> Vec<Rectangle> {
        let mut start = 0;
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(self.lengths.len());
        for length in &self.lengths {
            places.push((*length, start));
            start += length;
        }
        places.sort_unstable();
        let mut rectangles: Vec<Rectangle> = Vec::new();
        // From the longest down: a row is at least three quarters full.
        for (length, start) in places.into_iter().rev() {
            let fits = rectangles.last().is_some_and(|last| {
                let room = most.is_none_or(|most| (last.rows + 1) * last.length <= most);
                room && 4 * length >= 3 * last.length
            });
            if !fits {
                rectangles.push(Rectangle { length, ..Rectangle::default() });
            }
            let Some(rectangle) = rectangles.last_mut() else { continue };
            let padding = rectangle.length - length;
            rectangle.rows += 1;
            rectangle.tokens.extend_from_slice(&self.tokens[start..start + length]);
            rectangle.tokens.extend(std::iter::repeat_n(0, padding));
            rectangle.targets.extend_from_slice(&self.targets[start..start + length]);
            rectangle.targets.extend(std::iter::repeat_n(None, padding));
            rectangle.weights.extend_from_slice(&self.weights[start..start + length]);
            rectangle.weights.extend(std::iter::repeat_n(0.0, padding));
        }
        rectangles
    }
}

/// Documents side by side, padded at the end to the longest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rectangle {
    pub rows: usize,
    /// Positions per row.
    pub length: usize,
    /// Inputs, row-major `[rows, length]`.
    pub tokens: Vec<u32>,
    pub targets: Vec<Option<u32>>,
    pub weights: Vec<f32>,
}

/// Place in the stream of documents: everything needed to go on after an interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    /// Next document in the epoch's order.
    pub next: u64,
}

/// The endless stream of batches of a corpus: each epoch in an order of its own.
pub struct Batches<'a> {
    corpus: &'a dyn Corpus,
    seed: u64,
    /// Tokens of a batch, at most, unless one document is longer.
    batch_tokens: usize,
    context: usize,
    position: Position,
    order: Vec<usize>,
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
        let mut batches = Self { corpus, seed, batch_tokens, context, position, order: Vec::new() };
        batches.shuffle();
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

    /// The document at the current position, if it can be learnt.
    fn document(&self) -> Option<Document> {
        let index = self.order[self.position.next as usize];
        let document = self.corpus.document(self.position.epoch, index);
        (2..=self.context).contains(&document.tokens.len()).then_some(document)
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    /// `None` only if the corpus has nothing that can be learnt.
    fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut left_out = 0;
        while left_out <= self.order.len() {
            if self.position.next as usize >= self.order.len() {
                self.position = Position { epoch: self.position.epoch + 1, next: 0 };
                self.shuffle();
                left_out += usize::from(self.order.is_empty());
                continue;
            }
            match self.document() {
                Some(document) => {
                    let tokens = batch.count as usize + document.tokens.len();
                    if tokens > self.batch_tokens && batch.count > 0 {
                        return Some(batch);
                    }
                    batch.push(&document);
                }
                None => left_out += 1,
            }
            self.position.next += 1;
        }
        (batch.count > 0).then_some(batch)
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
            Document {
                tokens: vec![index as u32 + epoch as u32 * 1000; length],
                ..Document::default()
            }
        }
    }

    #[test]
    fn an_epoch_holds_every_document_once() {
        let batches = Batches::new(&Numbers(300), 1, 128, 64, Position::default());
        let mut seen = Vec::new();
        for batch in batches {
            assert!(batch.count <= 128);
            let mut start = 0;
            for length in &batch.lengths {
                seen.push(batch.tokens[start]);
                start += length;
            }
            if seen.len() >= 300 {
                break;
            }
        }
        seen.truncate(300);
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

    fn batch() -> Batch {
        let document =
            Document { tokens: vec![1, 2, 3, 4], loss_from: 2, weights: vec![1.0, 1.0, 3.0] };
        let short = Document { tokens: vec![5, 6], ..Document::default() };
        Batch::new([&document, &short])
    }

    #[test]
    fn targets_start_where_the_loss_does() {
        let batch = batch();
        assert_eq!(batch.tokens, [1, 2, 3, 5]);
        assert_eq!(batch.targets, [None, Some(3), Some(4), Some(6)]);
        assert_eq!((batch.lengths.as_slice(), batch.count), ([3, 1].as_slice(), 6));
        assert_eq!(batch.weights, [1.0, 3.0, 1.0, 1.0]);
        assert_eq!((batch.target_count(), batch.mean_scale()), (3, 0.2));
    }

    #[test]
    fn rectangles_pad_what_parts_pack() {
        let documents: Vec<Document> = (0..40)
            .map(|i| Document { tokens: (0..2 + i * 7 % 30).collect(), ..Document::default() })
            .collect();
        let batch = Batch::new(&documents);
        for size in [1, 50, 200, 10_000] {
            let parts = batch.parts(size);
            assert_eq!(parts.iter().map(|p| p.tokens).collect::<Vec<_>>().concat(), batch.tokens);
            assert_eq!(parts.iter().map(|p| p.lengths).collect::<Vec<_>>().concat(), batch.lengths);
            assert!(parts.iter().all(|p| p.tokens.len() == p.lengths.iter().sum::<usize>()));
            assert!(parts.iter().all(|p| p.tokens.len() <= size + 60), "{size}");
        }
        assert_eq!(batch.parts(200).len(), 3);
        for most in [None, Some(1), Some(40), Some(100)] {
            let rectangles = batch.rectangles(most);
            let targets = rectangles.iter().flat_map(|r| r.targets.iter().flatten()).count();
            assert_eq!(targets, batch.target_count());
            for rectangle in rectangles {
                assert_eq!(rectangle.tokens.len(), rectangle.rows * rectangle.length);
                let padding = rectangle.targets.iter().filter(|target| target.is_none()).count();
                assert!(padding * 4 <= rectangle.targets.len());
                let fits = most.is_none_or(|most| rectangle.tokens.len() <= most);
                assert!(fits || rectangle.rows == 1, "{most:?} {rectangle:?}");
            }
        }
    }

    #[test]
    fn nothing_to_learn_ends_the_stream() {
        assert!(Batches::new(&Numbers(0), 1, 64, 64, Position::default()).next().is_none());
        assert!(Batches::new(&Numbers(9), 1, 64, 1, Position::default()).next().is_none());
    }
}
