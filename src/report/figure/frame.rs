//! What surrounds the data: axes with ticks and labels, panel titles, the legend.

use super::palette::{BLACK, GREY, LIGHT_GREY, Rgb, Style, WHITE};
use super::scene::{Anchor, Point, Scene, Type, text_width, wrapped};
use super::{Axis, Content, Panel, Scale};

pub const TICK: f64 = 10.0;
pub const LABEL: f64 = 11.0;
pub const NOTE: f64 = 8.5;
const TITLE: f64 = 11.5;
pub const LEGEND_ROW: f64 = 17.0;
const SWATCH: f64 = 20.0;
/// Names below the x axis that are wider than their place stand upright, and are smaller.
const NAME: f64 = 8.0;
const NAME_LINE: f64 = NAME * 1.25;
/// Upright names that are longer than this take several lines, where there is room.
const LONG_NAME: f64 = 150.0;

/// The rectangle that holds the data, with its axes.
pub struct Frame<'a> {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

impl Frame<'_> {
    pub fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    pub fn y_at(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }

    /// As [`Frame::y_at`], kept inside the frame.
    pub fn y_inside(&self, value: f64) -> f64 {
        self.y_at(value).clamp(self.top, self.bottom)
    }
}

pub fn plain(size: f64, anchor: Anchor) -> Type {
    Type { size, bold: false, color: BLACK, anchor, upright: false }
}

/// Least height of what stands above upright names, however long they are.
const LEAST: f64 = 110.0;

/// Height that `panel` needs at this width for its names not to crowd out what they name, and for the
/// label of the y axis not to be longer than the axis.
pub fn least_height(panel: &Panel, width: f64) -> f64 {
    let label = text_width(&panel.y.label, LABEL, false);
    let least = if upright_limit(&panel.x, width).is_some() { LEAST } else { 0.0 };
    above(panel) + least.max(label) + below(panel, width)
}

/// Room for the title.
fn above(panel: &Panel) -> f64 {
    if panel.title.is_empty() { 4.0 } else { TITLE + 8.0 }
}

/// Room for the label of the x axis, and its ticks or names.
fn below(panel: &Panel, width: f64) -> f64 {
    let ticks = match (&panel.x.scale, upright_limit(&panel.x, width)) {
        (Scale::Names(names), Some(limit)) => {
            let lines = names.iter().flat_map(|name| wrapped(name, NAME, limit));
            lines.map(|line| text_width(&line, NAME, false)).fold(0.0, f64::max)
        }
        _ => TICK,
    };
    ticks + LABEL + 12.0
}

/// Draws axes, grid and title of `panel` into the rectangle at `corner` of this size.
pub fn draw<'a>(
    scene: &mut Scene,
    panel: &'a Panel,
    corner: Point,
    (width, height): (f64, f64),
) -> Frame<'a> {
    let bottom = corner.1 + height - below(panel, width);
    let top = corner.1 + above(panel);
    let spacing = if matches!(panel.y.scale, Scale::Names(_)) { TICK * 1.2 } else { 26.0 };
    let y_ticks = panel.y.ticks((((bottom - top) / spacing) as usize).max(2));
    let y_width = y_ticks.iter().map(|tick| text_width(&tick.1, TICK, false)).fold(0.0, f64::max);
    let colour_bar = if matches!(panel.content, Content::HeatMap(_)) { 52.0 } else { 2.0 };
    let left = corner.0 + LABEL + 6.0 + y_width + 7.0;
    let frame =
        Frame { left, top, right: corner.0 + width - colour_bar, bottom, x: &panel.x, y: &panel.y };
    let bold = Type { bold: true, ..plain(TITLE, Anchor::Start) };
    scene.text(panel.title.as_str(), (frame.left, corner.1 + TITLE / 2.0 + 1.0), bold);
    draw_y_axis(scene, &frame, &y_ticks, corner.0 + LABEL / 2.0);
    let limit = upright_limit(&panel.x, width);
    draw_x_axis(scene, &frame, limit, corner.1 + height - LABEL / 2.0 - 1.0);
    frame
}

/// Where names do not fit side by side below a panel of this width and stand upright: the length at
/// which they are broken, so that their lines find room.
fn upright_limit(axis: &Axis, width: f64) -> Option<f64> {
    let Scale::Names(names) = &axis.scale else { return None };
    let room = width * 0.85 / names.len().max(1) as f64;
    let longest = |size| names.iter().map(|name| text_width(name, size, false)).fold(0.0, f64::max);
    // Numbers are thinned out instead.
    let number = |name: &String| name.chars().next().is_some_and(|c| c.is_ascii_digit());
    if names.iter().all(number) || longest(TICK) <= room {
        return None;
    }
    let lines = (room / NAME_LINE - 0.5).floor();
    // Lines break between words: not all of them are full.
    Some(if lines > 1.0 { (longest(NAME) / lines * 1.2).max(LONG_NAME) } else { f64::INFINITY })
}

fn draw_y_axis(scene: &mut Scene, frame: &Frame, ticks: &[(f64, String)], label_x: f64) {
    for (place, text) in ticks {
        let y = frame.bottom - place * (frame.bottom - frame.top);
        if !matches!(frame.y.scale, Scale::Names(_)) {
            scene.line(vec![(frame.left, y), (frame.right, y)], LIGHT_GREY, 0.6);
        }
        scene.line(vec![(frame.left - 3.5, y), (frame.left, y)], GREY, 0.8);
        scene.text(text.as_str(), (frame.left - 6.0, y), plain(TICK, Anchor::End));
    }
    scene.line(vec![(frame.left, frame.top), (frame.left, frame.bottom)], GREY, 0.8);
    let style = Type { upright: true, ..plain(LABEL, Anchor::Middle) };
    scene.text(frame.y.label.as_str(), (label_x, (frame.top + frame.bottom) / 2.0), style);
}

/// Names stand upright if they have a `limit`, at which they are broken.
fn draw_x_axis(scene: &mut Scene, frame: &Frame, limit: Option<f64>, label_y: f64) {
    let width = frame.right - frame.left;
    let widest = match &frame.x.scale {
        Scale::Names(names) => {
            names.iter().map(|name| text_width(name, TICK, false)).fold(0.0, f64::max)
        }
        _ => 34.0,
    };
    let room = if limit.is_some() { NAME * 1.2 } else { widest + 6.0 };
    let ticks = frame.x.ticks(((width / room) as usize).max(2));
    for (place, text) in ticks {
        let x = frame.left + place * width;
        scene.line(vec![(x, frame.bottom), (x, frame.bottom + 3.5)], GREY, 0.8);
        if let Some(limit) = limit {
            let style = Type { upright: true, ..plain(NAME, Anchor::End) };
            let lines = wrapped(&text, NAME, limit);
            let first = x - (lines.len() - 1) as f64 / 2.0 * NAME_LINE;
            for (number, line) in lines.into_iter().enumerate() {
                scene.text(line, (first + number as f64 * NAME_LINE, frame.bottom + 6.0), style);
            }
        } else {
            scene.text(text, (x, frame.bottom + 6.0 + TICK / 2.0), plain(TICK, Anchor::Middle));
        }
    }
    scene.line(vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], GREY, 0.8);
    let middle = (frame.left + frame.right) / 2.0;
    scene.text(frame.x.label.as_str(), (middle, label_y), plain(LABEL, Anchor::Middle));
}

/// How a series looks in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swatch {
    Line,
    Dashes,
    Bar,
    WideBar,
    Dot,
}

/// An entry of the legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub label: String,
    pub style: Style,
    pub swatch: Swatch,
}

/// Entries in rows of at most `width`.
pub fn legend_rows(keys: &[Key], width: f64) -> Vec<Vec<(f64, Key)>> {
    let mut rows: Vec<Vec<(f64, Key)>> = Vec::new();
    let mut end = f64::INFINITY;
    for key in keys {
        let wide = SWATCH + 5.0 + text_width(&key.label, TICK, false);
        if end + wide > width {
            rows.push(Vec::new());
            end = 0.0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((end, key.clone()));
        }
        end += wide + 14.0;
    }
    rows
}

pub fn draw_legend(scene: &mut Scene, rows: &[Vec<(f64, Key)>], left: f64, top: f64) {
    for (row, keys) in rows.iter().enumerate() {
        let y = top + row as f64 * LEGEND_ROW + LEGEND_ROW / 2.0 - 1.0;
        for (start, key) in keys {
            let (x, color) = (left + start, key.style.color());
            match key.swatch {
                Swatch::Line => {
                    scene.line(vec![(x, y), (x + SWATCH, y)], color, 1.6);
                    draw_marker(scene, (x + SWATCH / 2.0, y), key.style);
                }
                Swatch::Dashes => scene.dashed((x, y), (x + SWATCH, y), color, 1.4),
                Swatch::Bar => scene.rectangle(x + 5.0, y - 5.0, x + 15.0, y + 5.0, color),
                Swatch::WideBar => scene.rectangle(x + 2.0, y - 5.0, x + 18.0, y + 5.0, REAL_BAR),
                Swatch::Dot => draw_marker(scene, (x + SWATCH / 2.0, y), key.style),
            }
            scene.text(key.label.as_str(), (x + SWATCH + 5.0, y), plain(TICK, Anchor::Start));
        }
    }
}

/// Bars of real data, behind the markers of generators.
pub const REAL_BAR: Rgb = Rgb(190, 190, 190);

/// Circle, square, triangle, diamond or a small circle, edged in white to stand off from lines.
pub fn draw_marker(scene: &mut Scene, (x, y): Point, style: Style) {
    for (size, color) in [(4.0, WHITE), (3.2, style.color())] {
        match style.marker() {
            0 => scene.circle((x, y), size, color),
            1 => scene.rectangle(
                x - size * 0.88,
                y - size * 0.88,
                x + size * 0.88,
                y + size * 0.88,
                color,
            ),
            2 => {
                let points = vec![
                    (x, y - size * 1.15),
                    (x + size * 1.1, y + size * 0.85),
                    (x - size * 1.1, y + size * 0.85),
                ];
                scene.polygon(points, color, 1.0);
            }
            3 => {
                let size = size * 1.25;
                let points = vec![(x, y - size), (x + size, y), (x, y + size), (x - size, y)];
                scene.polygon(points, color, 1.0);
            }
            _ => scene.circle((x, y), size * 0.8, color),
        }
    }
}

/// A vertical error bar with feet; nothing without an interval.
pub fn draw_error(
    scene: &mut Scene,
    frame: &Frame,
    x: f64,
    ends: (f64, f64),
    foot: f64,
    color: Rgb,
) {
    if ends.0.is_nan() || ends.1.is_nan() {
        return;
    }
    let (low, high) = (frame.y_inside(ends.0), frame.y_inside(ends.1));
    scene.line(vec![(x, low), (x, high)], color, 0.9);
    for y in [low, high] {
        scene.line(vec![(x - foot, y), (x + foot, y)], color, 0.9);
    }
}
