use std::collections::{BTreeMap, BTreeSet};

use super::frame::{Frame, TICK, plain};
use super::palette::{GREY, LIGHT_GREY, Rgb, heat, ink_on};
use super::scene::{Anchor, Scene, Type};
use crate::number;

/// Shares by two names axes. Cells without a value are hatched: they are not possible, or were not
/// asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// Share in [0, 1] by (column, row), counted from 0; row 0 is at the bottom.
    pub cells: BTreeMap<(usize, usize), f64>,
    /// Cells with a dot, which a note explains.
    pub dotted: BTreeSet<(usize, usize)>,
    pub columns: usize,
    pub rows: usize,
}

const HATCH: f64 = 5.0;

impl HeatMap {
    pub(super) fn draw(&self, scene: &mut Scene, frame: &Frame) {
        let width = (frame.right - frame.left) / self.columns.max(1) as f64;
        let height = (frame.bottom - frame.top) / self.rows.max(1) as f64;
        for column in 0..self.columns {
            for row in 0..self.rows {
                let (left, bottom) =
                    (frame.left + column as f64 * width, frame.bottom - row as f64 * height);
                let (right, top) = (left + width, bottom - height);
                match self.cells.get(&(column, row)) {
                    Some(share) if !share.is_nan() => {
                        let color = heat(*share);
                        scene.rectangle(left, top, right, bottom, color);
                        self.write(scene, (column, row), (left, top, right, bottom), *share);
                    }
                    _ => hatch(scene, (left, top, right, bottom)),
                }
            }
        }
        draw_colour_bar(scene, frame);
    }

    /// The share in per cent where there is room, and the dot.
    fn write(
        &self,
        scene: &mut Scene,
        cell: (usize, usize),
        (left, top, right, bottom): (f64, f64, f64, f64),
        share: f64,
    ) {
        let ink = ink_on(heat(share));
        let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let dotted = self.dotted.contains(&cell);
        if right - left >= 17.0 && bottom - top >= 13.0 {
            let text = format!("{:.0}", number::stable(share * 100.0));
            scene.text(
                text,
                (x, if dotted { y - 1.5 } else { y }),
                Type { color: ink, ..plain(7.0, Anchor::Middle) },
            );
        }
        if dotted {
            scene.circle((x, bottom - 3.2), 1.1, ink);
        }
    }
}

type Corners = (f64, f64, f64, f64);

/// Thin diagonals on white.
fn hatch(scene: &mut Scene, (left, top, right, bottom): Corners) {
    scene.rectangle(left, top, right, bottom, Rgb(248, 248, 248));
    let (width, height) = (right - left, bottom - top);
    // The lines x + y = offset that meet the cell, on a grid common to all cells.
    let first = ((left + top) / HATCH).ceil() as i64;
    let last = ((right + bottom) / HATCH).floor() as i64;
    for line in first..=last {
        let offset = line as f64 * HATCH - left - top;
        let from = (offset.min(width), (offset - width).max(0.0));
        let to = ((offset - height).max(0.0), offset.min(height));
        let points = vec![(left + from.0, top + from.1), (left + to.0, top + to.1)];
        scene.line(points, LIGHT_GREY, 0.6);
    }
}

fn draw_colour_bar(scene: &mut Scene, frame: &Frame) {
    const STEPS: usize = 50;
    let (left, right) = (frame.right + 10.0, frame.right + 20.0);
    let height = frame.bottom - frame.top;
    // Each step reaches down to the bottom, so that no seams show between them.
    for step in (0..STEPS).rev() {
        let top = frame.bottom - height * (step + 1) as f64 / STEPS as f64;
        let color = heat((step as f64 + 0.5) / STEPS as f64);
        scene.rectangle(left, top, right, frame.bottom, color);
    }
    for (place, text) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let y = frame.bottom - place * height;
        scene.line(vec![(right, y), (right + 2.5, y)], GREY, 0.8);
        scene.text(text, (right + 5.0, y), plain(TICK * 0.8, Anchor::Start));
    }
}
