use super::Bounded;
use super::frame::{Frame, Key, Swatch, draw_error, draw_marker};
use super::palette::Style;
use super::scene::Scene;

/// Points joined by lines, with a band for the intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub label: String,
    pub style: Style,
    /// By x. NaN values interrupt the line.
    pub points: Vec<(f64, Bounded)>,
    /// Off for lines of very many points.
    pub markers: bool,
}

/// A horizontal dashed line with its interval: something that does not depend on x.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    pub label: String,
    pub style: Style,
    pub value: Bounded,
}

/// Lines and levels of one panel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    pub lines: Vec<Line>,
    pub levels: Vec<Level>,
}

const BAND: f64 = 0.16;

impl Lines {
    /// All values and ends of intervals, for the range of the y axis.
    pub fn values(&self) -> Vec<f64> {
        let points = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        points.chain(self.levels.iter().map(|level| level.value)).flat_map(Bounded::all).collect()
    }

    /// Only what is drawn has a place in the legend.
    pub(super) fn keys(&self) -> Vec<Key> {
        let drawn = |line: &&Line| line.points.iter().any(|(_, y)| !y.value.is_nan());
        let lines = self.lines.iter().filter(drawn).map(|line| Key {
            label: line.label.clone(),
            style: line.style,
            swatch: Swatch::Line,
        });
        let levels = self.levels.iter().filter(|level| !level.value.value.is_nan());
        let levels = levels.map(|level| Key {
            label: level.label.clone(),
            style: level.style,
            swatch: Swatch::Dashes,
        });
        lines.chain(levels).collect()
    }

    /// Bands lie below all lines.
    pub(super) fn draw(&self, scene: &mut Scene, frame: &Frame) {
        for level in &self.levels {
            let Bounded { low, high, .. } = level.value;
            if !low.is_nan() && !high.is_nan() {
                let (low, high) = (frame.y_inside(low), frame.y_inside(high));
                let band = vec![
                    (frame.left, low),
                    (frame.right, low),
                    (frame.right, high),
                    (frame.left, high),
                ];
                scene.polygon(band, level.style.color(), BAND / 2.0);
            }
        }
        let runs: Vec<_> =
            self.lines.iter().flat_map(|line| unbroken(line).map(move |run| (line, run))).collect();
        for (line, run) in &runs {
            draw_band(scene, frame, line, run);
        }
        for level in self.levels.iter().filter(|level| !level.value.value.is_nan()) {
            let y = frame.y_inside(level.value.value);
            scene.dashed((frame.left, y), (frame.right, y), level.style.color(), 1.3);
        }
        for (line, run) in &runs {
            let points = run.iter().map(|(x, y)| (frame.x_at(*x), frame.y_inside(y.value)));
            let points: Vec<_> = points.collect();
            scene.line(points.clone(), line.style.color(), 1.6);
            if line.markers || points.len() == 1 {
                points.into_iter().for_each(|at| draw_marker(scene, at, line.style));
            }
        }
    }
}

/// Stretches of a line without NaN.
fn unbroken(line: &Line) -> impl Iterator<Item = &[(f64, Bounded)]> {
    line.points.split(|(_, y)| y.value.is_nan()).filter(|run| !run.is_empty())
}

fn draw_band(scene: &mut Scene, frame: &Frame, line: &Line, run: &[(f64, Bounded)]) {
    if let [(x, y)] = run {
        return draw_error(scene, frame, frame.x_at(*x), (y.low, y.high), 2.5, line.style.color());
    }
    // A piece at a time: points without an interval leave a hole in the band, nothing else.
    for piece in run.split(|(_, y)| y.low.is_nan() || y.high.is_nan()).filter(|p| p.len() > 1) {
        let lower = piece.iter().map(|(x, y)| (frame.x_at(*x), frame.y_inside(y.low)));
        let upper = piece.iter().rev().map(|(x, y)| (frame.x_at(*x), frame.y_inside(y.high)));
        scene.polygon(lower.chain(upper).collect(), line.style.color(), BAND);
    }
}
