use super::Bounded;
use super::frame::{Frame, Key, REAL_BAR, Swatch, draw_error, draw_marker};
use super::palette::{GREY, Style};
use super::scene::Scene;

/// One bar or marker per group.
#[derive(Clone, Debug, PartialEq)]
pub struct BarSeries {
    pub label: String,
    pub style: Style,
    /// As many as the x axis has names; NaN for none.
    pub values: Vec<Bounded>,
}

/// Groups along a names axis. With a `backdrop` (what is real), that is drawn as wide bars and the
/// other series as markers on them; without, all series are bars side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub backdrop: Option<BarSeries>,
    pub series: Vec<BarSeries>,
}

/// Share of a group's width that its bars take.
const FILLED: f64 = 0.8;

impl Bars {
    /// All values and ends of intervals, for the range of the y axis.
    pub fn values(&self) -> Vec<f64> {
        let series = self.backdrop.iter().chain(&self.series);
        series.flat_map(|series| &series.values).flat_map(|value| value.all()).collect()
    }

    /// How high bars and markers stand, for a y axis that cuts off long intervals.
    pub fn heights(&self) -> impl Iterator<Item = f64> {
        let series = self.backdrop.iter().chain(&self.series);
        series.flat_map(|series| &series.values).map(|value| value.value)
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let key = |series: &BarSeries, swatch| Key {
            label: series.label.clone(),
            style: series.style,
            swatch,
        };
        let other = if self.backdrop.is_some() { Swatch::Dot } else { Swatch::Bar };
        let backdrop = self.backdrop.iter().map(|series| key(series, Swatch::WideBar));
        backdrop.chain(self.series.iter().map(|series| key(series, other))).collect()
    }

    pub(super) fn draw(&self, scene: &mut Scene, frame: &Frame) {
        let group = frame.x_at(1.0) - frame.x_at(0.0);
        // Bars reach to 0, where the axis has it.
        let base = frame.y_inside(0.0);
        if let Some(backdrop) = &self.backdrop {
            for (index, value) in present(backdrop) {
                let (x, half) = (frame.x_at(index as f64), group * FILLED / 2.0);
                scene.rectangle(x - half, frame.y_inside(value.value), x + half, base, REAL_BAR);
            }
            for (index, value) in present(backdrop) {
                let x = frame.x_at(index as f64) - group * FILLED * 0.42;
                draw_error(scene, frame, x, (value.low, value.high), 1.2, GREY);
            }
        }
        let count = self.series.len().max(1) as f64;
        let width = group * FILLED / count;
        for (place, series) in self.series.iter().enumerate() {
            let shift = (place as f64 + 0.5) * width - group * FILLED / 2.0;
            for (index, value) in present(series) {
                let (x, y) = (frame.x_at(index as f64) + shift, frame.y_inside(value.value));
                let ends = (value.low, value.high);
                if self.backdrop.is_some() {
                    draw_error(scene, frame, x, ends, 1.2, series.style.color());
                    draw_marker(scene, (x, y), series.style);
                } else {
                    let half = width * 0.46;
                    let (top, bottom) = (y.min(base), y.max(base));
                    scene.rectangle(x - half, top, x + half, bottom, series.style.color());
                    draw_error(
                        scene,
                        frame,
                        x,
                        ends,
                        (width * 0.2).min(3.0),
                        super::palette::BLACK,
                    );
                }
            }
        }
    }
}

fn present(series: &BarSeries) -> impl Iterator<Item = (usize, &Bounded)> {
    series.values.iter().enumerate().filter(|(_, value)| !value.value.is_nan())
}
