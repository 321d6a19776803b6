//! Plots as inline SVG: points with errors, and lines. Axes begin at round numbers; nothing is cut off.

use std::fmt::Write as _;

use super::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// Room for numbers and names: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (70.0, 20.0, 16.0, 48.0);
/// Told apart by those who see colours otherwise, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"];

/// A point with a name.
pub(super) struct Point {
    pub(super) label: String,
    /// Of its colour.
    pub(super) index: usize,
    pub(super) x: f64,
    pub(super) y: f64,
    /// To each side, upwards and downwards.
    pub(super) error: f64,
}

/// A line with a name.
pub(super) struct Series {
    pub(super) name: String,
    /// Of its colour.
    pub(super) index: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// From values to places.
struct Axis {
    least: f64,
    step: f64,
    n_steps: usize,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over all values, from one place to the other, with round numbers at its marks.
    fn new(values: impl Iterator<Item = f64> + Clone, (from, to): (f64, f64)) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        let (least, most) = if least.is_finite() && most.is_finite() { (least, most) } else { (0.0, 1.0) };
        let room = if most > least { 0.05 * (most - least) } else { 0.1 * most.abs().max(1.0) };
        // What is never negative has no room below 0.
        let low = if least >= 0.0 { (least - room).max(0.0) } else { least - room };
        let rough = (most + room - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (low / step).floor();
        let n_steps = ((most + room) / step - first).ceil().max(1.0) as usize;
        Axis { least: first * step, step, n_steps, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.least) / (self.step * self.n_steps as f64) * (self.to - self.from)
    }

    /// Numbers at the marks.
    fn marks(&self) -> impl Iterator<Item = (f64, String)> + '_ {
        let places = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        (0..=self.n_steps).map(move |mark| {
            let value = self.least + self.step * mark as f64;
            (self.at(value), format!("{value:.places$}"))
        })
    }
}

/// The frame: axes, marks and names. What is drawn into it follows.
fn frame(x: &Axis, y: &Axis, x_name: &str, y_name: &str) -> String {
    let (left, right, top, bottom) = (MARGIN.0, WIDTH - MARGIN.1, MARGIN.2, HEIGHT - MARGIN.3);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for (at, number) in x.marks() {
        let _ =
            write!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
        let _ = write!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{number}</text>",
            bottom + 16.0
        );
    }
    for (at, number) in y.marks() {
        let _ =
            write!(svg, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{number}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    let _ = write!(svg, "<path class=\"axis\" fill=\"none\" d=\"M{left} {top}V{bottom}H{right}\"/>");
    let (middle, height) = ((left + right) / 2.0, (top + bottom) / 2.0);
    let _ = write!(
        svg,
        "<text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        HEIGHT - 8.0,
        escape(x_name)
    );
    let _ = writeln!(
        svg,
        "<text x=\"14\" y=\"{height}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {height})\">{}</text>",
        escape(y_name)
    );
    svg
}

fn axes(x: impl Iterator<Item = f64> + Clone, y: impl Iterator<Item = f64> + Clone) -> (Axis, Axis) {
    (Axis::new(x, (MARGIN.0, WIDTH - MARGIN.1)), Axis::new(y, (HEIGHT - MARGIN.3, MARGIN.2)))
}

/// Named points with their errors.
pub(super) fn scatter(points: &[Point], x_name: &str, y_name: &str) -> String {
    let ys = points.iter().flat_map(|point| [point.y - point.error, point.y + point.error]);
    let (x, y) = axes(points.iter().map(|point| point.x), ys);
    let mut svg = frame(&x, &y, x_name, y_name);
    for point in points {
        let colour = COLOURS[point.index % COLOURS.len()];
        let (at_x, at_y) = (x.at(point.x), y.at(point.y));
        let (low, high) = (y.at(point.y - point.error), y.at(point.y + point.error));
        let _ = write!(svg, "<path stroke=\"{colour}\" d=\"M{at_x:.1} {low:.1}V{high:.1}\"/>");
        let _ = write!(svg, "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"4.5\" fill=\"{colour}\"/>");
        // Names stand on the side that has room.
        let (dx, anchor) = if at_x > 0.65 * WIDTH { (-9.0, "end") } else { (9.0, "start") };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at_x + dx,
            at_y + 4.0,
            escape(&point.label)
        );
    }
    svg + "</svg>"
}

/// Named lines, from 0 upwards.
pub(super) fn lines(series: &[Series], x_name: &str, y_name: &str) -> String {
    let all = || series.iter().flat_map(|series| series.points.iter().copied());
    let (x, y) = axes(all().map(|(x, _)| x), all().map(|(_, y)| y).chain([0.0]));
    let mut svg = frame(&x, &y, x_name, y_name);
    for (index, series) in series.iter().enumerate() {
        let colour = COLOURS[series.index % COLOURS.len()];
        let places: Vec<(f64, f64)> = series.points.iter().map(|&(a, b)| (x.at(a), y.at(b))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y) in places {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        // Names above each other, where lines from 0 upwards leave room.
        let at = HEIGHT - MARGIN.3 - 14.0 - 16.0 * index as f64;
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{colour}\"/>",
            MARGIN.0 + 14.0,
            at - 4.0
        );
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{at:.1}\">{}</text>", MARGIN.0 + 24.0, escape(&series.name));
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_hold_all_values() {
        for (values, least, step) in [
            (&[0.0, 10.0][..], 0.0, 5.0),
            (&[98.4, 253.1], 50.0, 50.0),
            (&[0.0042, 0.0371], 0.0, 0.01),
            (&[5.0], 4.4, 0.2),
            (&[-3.0, 4.0], -4.0, 2.0),
            (&[], 0.0, 0.5),
        ] {
            let axis = Axis::new(values.iter().copied(), (0.0, 100.0));
            assert!(
                (axis.least - least).abs() < 1e-9 && (axis.step - step).abs() < 1e-9,
                "{values:?}: {} {}",
                axis.least,
                axis.step
            );
            for value in values {
                assert!((0.0..=100.0).contains(&axis.at(*value)), "{values:?}");
            }
        }
    }
}
