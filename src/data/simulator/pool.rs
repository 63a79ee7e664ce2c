//! Graphs that are drawn for prompts alone.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Cloud;
use crate::check;
use crate::data::HeldOut;
use crate::graph::grid_cells;
use crate::progress::Progress;

/// `[source.pool]`: graphs of every number of edges and depth, drawn apart from those of the dataset, so
/// that a prompt can ask a service for what it really makes, however rarely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Graphs with more calls are left out.
    pub max_edges: u32,
    /// Deeper graphs are left out.
    pub max_depth: u32,
    /// Graphs that are kept of each number of edges and depth.
    pub per_cell: u32,
    /// Graphs that are drawn at most, for each graph of the dataset; 0 for no pool.
    pub draws: u32,
}

impl Default for Pool {
    /// The paper asks for 50 graphs with up to 30 edges and depth 6.
    fn default() -> Self {
        Self { max_edges: 40, max_depth: 6, per_cell: 50, draws: 50 }
    }
}

/// Graphs that are drawn before it is asked whether any are still missing.
const BLOCK: u64 = 1 << 16;

impl Pool {
    pub(super) fn check(&self) -> Result<(), String> {
        check::within("source.pool.max_edges", self.max_edges, 1..=500)?;
        check::within("source.pool.max_depth", self.max_depth, 1..=15)?;
        check::within("source.pool.per_cell", self.per_cell, 1..=100_000)?;
        check::within("source.pool.draws", self.draws, 0..=100_000)
    }

    /// The first graphs of each number of edges and depth, with their numbers in the stream
    /// [`Cloud::pool_graph`], for a dataset of so many graphs. The same whatever the number of threads.
    pub(super) fn draw(
        &self,
        cloud: &Cloud,
        seed: u64,
        graphs: u64,
        progress: Progress,
    ) -> Vec<(u64, HeldOut)> {
        let limit = graphs.saturating_mul(self.draws.into());
        let step = progress.step("simulating held-out graphs", "graphs", limit);
        let mut missing: Vec<((u32, u32), u32)> =
            grid_cells(self.max_edges, self.max_depth).map(|cell| (cell, self.per_cell)).collect();
        let mut pool = Vec::new();
        let mut from = 0;
        while from < limit && missing.iter().any(|(_, count)| *count > 0) {
            let block = from..limit.min(from + BLOCK);
            from = block.end;
            let drawn: Vec<(u64, HeldOut)> =
                block.into_par_iter().map(|index| (index, cloud.pool_shape(seed, index))).collect();
            step.inc(drawn.len() as u64);
            for (index, drawn) in drawn {
                let cell = (drawn.num_edges, drawn.depth);
                let Ok(place) = missing.binary_search_by_key(&cell, |(cell, _)| *cell) else {
                    continue;
                };
                if missing[place].1 > 0 {
                    missing[place].1 -= 1;
                    pool.push((index, drawn));
                }
            }
        }
        step.finish();
        pool
    }
}
