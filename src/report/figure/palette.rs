//! Colours that colour-blind readers can tell apart, and that differ in grey as well.

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

pub const BLACK: Rgb = Rgb(0, 0, 0);
pub const WHITE: Rgb = Rgb(255, 255, 255);
/// Axes and text that stands back.
pub const GREY: Rgb = Rgb(90, 90, 90);
/// Grid lines and hatching.
pub const LIGHT_GREY: Rgb = Rgb(222, 222, 222);

/// Okabe and Ito (2008), black left out (it stands for real data); from the most contrasting pair
/// on, yellow last because it is faint on white.
const SERIES: [Rgb; 7] = [
    Rgb(0, 114, 178),
    Rgb(213, 94, 0),
    Rgb(0, 158, 115),
    Rgb(204, 121, 167),
    Rgb(230, 159, 0),
    Rgb(86, 180, 233),
    Rgb(240, 228, 66),
];

/// What a series is, which decides on its colour and marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Real graphs, or real against real.
    Real,
    /// The n-th generator of the report: the same in all of its figures.
    Generator(usize),
}

impl Style {
    /// How many generators have a colour of their own.
    pub const COLORS: usize = SERIES.len();

    pub fn color(self) -> Rgb {
        match self {
            Self::Real => Rgb(60, 60, 60),
            Self::Generator(index) => SERIES[index % SERIES.len()],
        }
    }

    /// Number of the marker's shape; markers repeat later than colours do.
    pub fn marker(self) -> usize {
        match self {
            Self::Real => 4,
            Self::Generator(index) => index % 4,
        }
    }
}

/// Nine equidistant points of viridis (van der Walt and Smith, 2015), which is perceptually uniform.
const HEAT: [Rgb; 9] = [
    Rgb(68, 1, 84),
    Rgb(71, 45, 123),
    Rgb(59, 82, 139),
    Rgb(44, 114, 142),
    Rgb(33, 145, 140),
    Rgb(40, 174, 128),
    Rgb(94, 201, 98),
    Rgb(173, 220, 48),
    Rgb(253, 231, 37),
];

/// Colour of a share in [0, 1], from dark to light.
pub fn heat(share: f64) -> Rgb {
    let place = share.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let below = (place as usize).min(HEAT.len() - 2);
    let part = place - below as f64;
    let (a, b) = (HEAT[below], HEAT[below + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Black or white, whichever is read better on `color`.
pub fn ink_on(color: Rgb) -> Rgb {
    let light =
        0.299 * f64::from(color.0) + 0.587 * f64::from(color.1) + 0.114 * f64::from(color.2);
    if light > 140.0 { BLACK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_grows_lighter() {
        let light = |share| {
            let Rgb(r, g, b) = heat(share);
            0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b)
        };
        let steps: Vec<f64> = (0..=50).map(|step| light(f64::from(step) / 50.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
        assert_eq!((heat(-1.0), heat(2.0)), (HEAT[0], HEAT[8]));
        assert_eq!((ink_on(heat(0.0)), ink_on(heat(1.0))), (WHITE, BLACK));
    }
}
