//! Figures that a paper can print: SVG and PNG from one description, with embedded fonts, colours
//! for colour-blind readers and intervals drawn.

mod axis;
mod bars;
mod frame;
mod heat_map;
mod lines;
mod palette;
mod scene;

pub use axis::{Axis, Scale};
pub use bars::{BarSeries, Bars};
pub use heat_map::HeatMap;
pub use lines::{Level, Line, Lines};
pub use palette::Style;

use anyhow::Result;

use frame::{Key, LEGEND_ROW, NOTE, draw_legend, legend_rows};
use palette::GREY;
use scene::{Anchor, Scene, Type, wrapped};

use crate::display;

/// Width of a figure that fills one column of a page, and of one that fills two (1/96 inch).
pub const COLUMN: f64 = 420.0;
pub const PAGE: f64 = 720.0;

/// A value with its 95 % interval; NaN ends for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Bounded {
    pub const NONE: Self = Self { value: f64::NAN, low: f64::NAN, high: f64::NAN };

    /// The value and the ends of the interval, as far as they exist.
    pub fn all(self) -> impl Iterator<Item = f64> {
        [self.value, self.low, self.high].into_iter().filter(|value| value.is_finite())
    }
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    HeatMap(HeatMap),
    Lines(Lines),
    Bars(Bars),
}

/// One coordinate system. An empty title is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub content: Content,
}

impl Panel {
    /// With all texts as they are drawn.
    fn shown(&self) -> Self {
        Self {
            title: display::name(&self.title).into_owned(),
            x: self.x.shown(),
            y: self.y.shown(),
            content: self.content.clone(),
        }
    }
}

/// Panels in rows of `across`, one legend above them and notes below.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Says in words what the figure shows; for screen readers, not drawn (captions do that).
    pub title: String,
    pub panels: Vec<Panel>,
    pub across: usize,
    pub width: f64,
    /// Height of one row of panels with its axes; more where long names below them need it.
    pub row_height: f64,
    /// What a reader must know: labels of the dataset, seeds, failed runs.
    pub notes: Vec<String>,
}

const MARGIN: f64 = 6.0;
const GAP: f64 = 14.0;

impl Figure {
    /// # Errors
    /// Only if drawing itself fails.
    pub fn to_svg(&self) -> Result<String> {
        self.scene().to_svg(&self.title)
    }

    /// Two pixels per unit of length.
    ///
    /// # Errors
    /// Only if drawing or encoding itself fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.scene().to_png()
    }

    fn scene(&self) -> Scene {
        let keys = self.keys();
        let panels: Vec<Panel> = self.panels.iter().map(Panel::shown).collect();
        let inner = self.width - 2.0 * MARGIN;
        let legend = legend_rows(&keys, inner);
        let notes: Vec<String> = self
            .notes
            .iter()
            .flat_map(|note| wrapped(&display::line(note).replace('`', ""), NOTE, inner))
            .collect();
        let note_height = NOTE * 1.45;
        let across = self.across.max(1);
        let rows = panels.len().div_ceil(across);
        let legend_height = legend.len() as f64 * LEGEND_ROW;
        let panel_width = (inner - GAP * (across - 1) as f64) / across as f64;
        let least = panels.iter().map(|panel| frame::least_height(panel, panel_width));
        let row_height = least.fold(self.row_height, f64::max);
        let panels_height = rows as f64 * (row_height + GAP) - GAP;
        let notes_height =
            notes.len() as f64 * note_height + if notes.is_empty() { 0.0 } else { 6.0 };
        let height = 2.0 * MARGIN + legend_height + panels_height.max(0.0) + notes_height;
        let mut scene = Scene::new(self.width, height);
        draw_legend(&mut scene, &legend, MARGIN, MARGIN);
        for (index, panel) in panels.iter().enumerate() {
            let left = MARGIN + (index % across) as f64 * (panel_width + GAP);
            let top = MARGIN + legend_height + (index / across) as f64 * (row_height + GAP);
            let frame = frame::draw(&mut scene, panel, (left, top), (panel_width, row_height));
            match &panel.content {
                Content::HeatMap(map) => map.draw(&mut scene, &frame),
                Content::Lines(lines) => lines.draw(&mut scene, &frame),
                Content::Bars(bars) => bars.draw(&mut scene, &frame),
            }
        }
        let style =
            Type { size: NOTE, bold: false, color: GREY, anchor: Anchor::Start, upright: false };
        for (row, note) in notes.into_iter().enumerate() {
            let y = height - MARGIN - notes_height + 6.0 + (row as f64 + 0.5) * note_height;
            scene.text(note, (MARGIN, y), style);
        }
        scene
    }

    /// Each label once, in order of first use. Labels that differ only where they are cut are two.
    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for panel in &self.panels {
            let more = match &panel.content {
                Content::HeatMap(_) => Vec::new(),
                Content::Lines(lines) => lines.keys(),
                Content::Bars(bars) => bars.keys(),
            };
            for key in more {
                if !keys.iter().any(|known| known.label == key.label) {
                    keys.push(key);
                }
            }
        }
        let shown = |key: Key| Key { label: display::label(&key.label).into_owned(), ..key };
        keys.into_iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests;
