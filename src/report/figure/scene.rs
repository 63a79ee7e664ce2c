//! Shapes on a page, drawn to SVG and PNG by the same code.
//!
//! Lengths are in units of 1/96 inch (CSS pixels); y grows downwards.

use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use plotters::coord::Shift;
use plotters::prelude::{
    BitMapBackend, Circle, DrawingArea, DrawingBackend, IntoDrawingArea, PathElement, Polygon,
    RGBColor, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, ShapeStyle, TextStyle, register_font,
};

use super::palette::Rgb;
use crate::display;

/// The embedded font and, for readers of an SVG who lack it, fonts of the same width, then any.
const FONT: &str = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif";
/// Height of a capital letter, ems.
const CAPITAL: f64 = 0.73;
/// plotters sizes bitmap text by ascent + descent of the font (DejaVu: 1.164 em) …
const BITMAP_EM: f64 = 1.164;
/// … and SVG text by a constant of its own.
const SVG_EM: f64 = 1.24;

/// SVG coordinates are integers in plotters: a tenth of a unit each.
const SVG_SCALE: f64 = 10.0;
/// Bitmaps are drawn this much larger than the PNG and averaged, which smooths edges and text.
const SUPERSAMPLE: u32 = 3;
/// PNG pixels per unit.
const PNG_SCALE: u32 = 2;

/// A point on the page.
pub type Point = (f64, f64);

/// Which part of a text lies at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// Size of an em.
    pub size: f64,
    pub bold: bool,
    pub color: Rgb,
    pub anchor: Anchor,
    /// Reads from bottom to top.
    pub upright: bool,
}

enum Shape {
    Rectangle { corners: [Point; 2], fill: Rgb },
    Line { points: Vec<Point>, color: Rgb, width: f64 },
    Polygon { points: Vec<Point>, fill: Rgb, opacity: f64 },
    Circle { center: Point, radius: f64, fill: Rgb },
    Text { text: String, baseline: Point, style: Type },
}

/// A page of shapes, later ones on top.
pub struct Scene {
    pub width: f64,
    pub height: f64,
    shapes: Vec<Shape>,
}

impl Scene {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub fn rectangle(&mut self, left: f64, top: f64, right: f64, bottom: f64, fill: Rgb) {
        self.shapes.push(Shape::Rectangle { corners: [(left, top), (right, bottom)], fill });
    }

    pub fn line(&mut self, points: Vec<Point>, color: Rgb, width: f64) {
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, color, width });
        }
    }

    /// A straight line of dashes.
    pub fn dashed(&mut self, from: Point, to: Point, color: Rgb, width: f64) {
        const DASH: f64 = 5.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |along: f64| {
            let part = (along / length).min(1.0);
            (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
        };
        let dashes = (length / (2.0 * DASH)).ceil() as usize;
        for dash in 0..dashes {
            let start = dash as f64 * 2.0 * DASH;
            self.line(vec![at(start), at(start + DASH)], color, width);
        }
    }

    pub fn polygon(&mut self, points: Vec<Point>, fill: Rgb, opacity: f64) {
        self.shapes.push(Shape::Polygon { points, fill, opacity });
    }

    pub fn circle(&mut self, center: Point, radius: f64, fill: Rgb) {
        self.shapes.push(Shape::Circle { center, radius, fill });
    }

    /// Text whose capitals are centred across the line on `at`.
    pub fn text(&mut self, text: impl Into<String>, at: Point, style: Type) {
        let drop = CAPITAL / 2.0 * style.size;
        let baseline = if style.upright { (at.0 + drop, at.1) } else { (at.0, at.1 + drop) };
        // plotters writes characters into an SVG that XML does not have.
        let text = display::visible(&text.into()).into_owned();
        self.shapes.push(Shape::Text { text, baseline, style });
    }

    /// The page as SVG: real text in a font stack, `title` for screen readers.
    ///
    /// # Errors
    /// Only if drawing itself fails.
    pub fn to_svg(&self, title: &str) -> Result<String> {
        let mut svg = String::new();
        let scaled = |length: f64| (length * SVG_SCALE).ceil() as u32;
        let size = (scaled(self.width), scaled(self.height));
        let pen = Pen { scale: SVG_SCALE, em: SVG_EM, rise: 0.76 / SVG_EM };
        self.draw(SVGBackend::with_string(&mut svg, size).into_drawing_area(), &pen)?;
        let drawn = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
        let sized = format!("<svg width=\"{:.0}\" height=\"{:.0}\"", self.width, self.height);
        let svg = svg.replacen(&drawn, &sized, 1);
        let (head, body) =
            svg.split_once("xmlns=\"http://www.w3.org/2000/svg\">").context("an SVG")?;
        let title = display::line(title).replace('&', "&amp;").replace('<', "&lt;");
        let title = title.replace("]]>", "]]&gt;");
        Ok(format!("{head}xmlns=\"http://www.w3.org/2000/svg\">\n<title>{title}</title>{body}\n"))
    }

    /// The page as PNG, two pixels per unit.
    ///
    /// # Errors
    /// Only if drawing or encoding itself fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let pixels = |length: f64| (length.ceil() as u32) * PNG_SCALE;
        let (width, height) = (pixels(self.width), pixels(self.height));
        let (wide, high) = (width * SUPERSAMPLE, height * SUPERSAMPLE);
        let mut buffer = vec![255; wide as usize * high as usize * 3];
        let scale = f64::from(PNG_SCALE * SUPERSAMPLE);
        let pen = Pen { scale, em: BITMAP_EM, rise: 0.5 };
        self.draw(BitMapBackend::with_buffer(&mut buffer, (wide, high)).into_drawing_area(), &pen)?;
        let large =
            image::RgbImage::from_raw(wide, high, buffer).context("an image of this size")?;
        let small = image::imageops::thumbnail(&large, width, height);
        let mut png = Vec::new();
        // Large areas of one colour: no filter and the best compression give the smallest files.
        PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::NoFilter)
            .write_image(&small, width, height, image::ColorType::Rgb8)?;
        Ok(png)
    }

    fn draw<DB: DrawingBackend>(&self, area: DrawingArea<DB, Shift>, pen: &Pen) -> Result<()> {
        register_fonts();
        // plotters' errors borrow the backend's type.
        let failed = |error: &dyn std::fmt::Display| anyhow!("a figure cannot be drawn: {error}");
        area.fill(&RGBColor(255, 255, 255)).map_err(|error| failed(&error))?;
        for shape in &self.shapes {
            pen.draw(shape, &area).map_err(|error| failed(&error))?;
        }
        area.present().map_err(|error| failed(&error))
    }
}

/// How units and texts become those of a backend.
struct Pen {
    scale: f64,
    /// plotters' font size of one em.
    em: f64,
    /// Baseline below the top of a text, in font sizes.
    rise: f64,
}

impl Pen {
    fn at(&self, point: Point) -> (i32, i32) {
        ((point.0 * self.scale).round() as i32, (point.1 * self.scale).round() as i32)
    }

    fn draw<DB: DrawingBackend>(
        &self,
        shape: &Shape,
        area: &DrawingArea<DB, Shift>,
    ) -> Result<(), plotters::drawing::DrawingAreaErrorKind<DB::ErrorType>> {
        match shape {
            Shape::Rectangle { corners: [one, other], fill } => {
                area.draw(&Rectangle::new([self.at(*one), self.at(*other)], paint(*fill).filled()))
            }
            Shape::Line { points, color, width } => {
                let stroke = ((width * self.scale).round() as u32).max(1);
                let style = ShapeStyle {
                    color: paint(*color).to_rgba(),
                    filled: false,
                    stroke_width: stroke,
                };
                // One piece at a time with round joints: plotters' own joints grow spikes where a
                // line turns sharply.
                for piece in points.windows(2) {
                    let ends = [self.at(piece[0]), self.at(piece[1])];
                    if ends[0] != ends[1] {
                        area.draw(&PathElement::new(ends.to_vec(), style))?;
                    }
                }
                for joint in &points[1..points.len() - 1] {
                    area.draw(&Circle::new(self.at(*joint), stroke / 2, paint(*color).filled()))?;
                }
                Ok(())
            }
            Shape::Polygon { points, fill, opacity } => {
                let points: Vec<_> = points.iter().map(|point| self.at(*point)).collect();
                area.draw(&Polygon::new(points, paint(*fill).mix(*opacity).filled()))
            }
            Shape::Circle { center, radius, fill } => {
                let radius = (radius * self.scale).round() as u32;
                area.draw(&Circle::new(self.at(*center), radius, paint(*fill).filled()))
            }
            Shape::Text { text, baseline, style } => {
                let size = style.size * self.scale * self.em;
                let horizontal = match style.anchor {
                    Anchor::Start => HPos::Left,
                    Anchor::Middle => HPos::Center,
                    Anchor::End => HPos::Right,
                };
                let (mut x, mut y) = self.at(*baseline);
                let rise = (size * self.rise).round() as i32;
                let mut font = font(size, style.bold);
                if style.upright {
                    x -= rise;
                    font = font.transform(FontTransform::Rotate270);
                } else {
                    y -= rise;
                }
                let color = paint(style.color);
                let style =
                    TextStyle::from(font).color(&color).pos(Pos::new(horizontal, VPos::Top));
                area.draw(&Text::new(text.as_str(), (x, y), style))
            }
        }
    }
}

fn paint(color: Rgb) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}

fn font(size: f64, bold: bool) -> FontDesc<'static> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FONT), size, style)
}

/// Fonts are compiled in: figures look the same on a machine that has none.
fn register_fonts() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // A font that cannot be parsed shows as an error when text is drawn.
        let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
        let _ = register_font(FONT, FontStyle::Bold, dejavu::sans::bold());
    });
}

/// Width of a text of this size.
pub fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    register_fonts();
    // Measured large, because plotters cuts widths to whole pixels.
    const EM: f64 = 100.0;
    let width = font(EM * BITMAP_EM, bold).box_size(text).map_or(0, |(width, _)| width);
    f64::from(width) / EM * size
}

/// `text` in lines of at most `width`; a longer word has a line of its own. Both sides of `=` count as
/// one word.
pub fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if word == "=" || last.ends_with(" =") => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size, false) <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::palette::BLACK;

    #[test]
    fn text_is_measured_and_wrapped() {
        assert!(text_width("wide", 10.0, true) > text_width("wide", 10.0, false));
        assert!((text_width("mm", 20.0, false) - 2.0 * text_width("mm", 10.0, false)).abs() < 0.1);
        let lines = wrapped("one two three four", 10.0, text_width("one two", 10.0, false));
        assert_eq!(lines, ["one two", "three", "four"]);
        let lines = wrapped("tuned, T = 0.8", 10.0, text_width("tuned, T", 10.0, false));
        assert_eq!(lines, ["tuned,", "T = 0.8"]);
    }

    #[test]
    fn the_same_page_twice_is_the_same_bytes() {
        let mut scene = Scene::new(60.0, 30.0);
        scene.line(vec![(5.0, 5.0), (30.0, 25.0), (55.0, 5.0)], BLACK, 1.5);
        let style =
            Type { size: 9.0, bold: false, color: BLACK, anchor: Anchor::Middle, upright: false };
        scene.text("a < b & c", (30.0, 15.0), style);
        let png = scene.to_png().unwrap();
        assert_eq!(png, scene.to_png().unwrap());
        let image = image::load_from_memory(&png).unwrap();
        assert_eq!((image.width(), image.height()), (120, 60));
        let svg = scene.to_svg("A & B").unwrap();
        assert!(
            svg.contains("a &lt; b &amp; c") && svg.contains("<title>A &amp; B</title>"),
            "{svg}"
        );
        assert!(
            svg.starts_with("<svg width=\"60\" height=\"30\" viewBox=\"0 0 600 300\""),
            "{svg}"
        );
    }
}
