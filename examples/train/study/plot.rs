//! Plots: panels side by side, with lines of points and their spread over the seeds.

use std::path::Path;

use anyhow::{anyhow, Result};
use colm_testing::statistics::Summary;
use plotters::coord::Shift;
use plotters::prelude::*;

/// A line in a panel.
pub struct Line {
    /// The name in the legend. The same name has the same color in every panel.
    pub name: &'static str,
    /// x and the measured values there.
    pub points: Vec<(f64, Summary)>,
}

/// A chart.
pub struct Panel {
    /// The measured quantity.
    pub title: &'static str,
    /// The label of the x axis.
    pub axis: &'static str,
    pub lines: Vec<Line>,
}

const PANEL: u32 = 400;
const LEGEND: u32 = 280;
const HEIGHT: u32 = 340;
const COLORS: [RGBColor; 4] =
    [RGBColor(30, 90, 200), RGBColor(200, 30, 50), RGBColor(110, 110, 110), RGBColor(20, 150, 110)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Writes `panels` as an SVG file.
pub fn save(panels: &[Panel], path: &Path) -> Result<()> {
    let width = PANEL * panels.len() as u32 + LEGEND;
    let root = SVGBackend::new(path, (width, HEIGHT)).into_drawing_area();
    draw(&root, panels).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(root: &Area, panels: &[Panel]) -> Drawn {
    root.fill(&WHITE)?;
    let mut names: Vec<&str> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name) {
            names.push(line.name);
        }
    }
    let (charts, legend) = root.split_horizontally(PANEL * panels.len() as u32);
    for (area, panel) in charts.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(area, panel, &names)?;
    }
    for (row, name) in names.iter().enumerate() {
        let y = 50 + 22 * row as i32;
        let style = color(&names, name).stroke_width(2);
        legend.draw(&PathElement::new(vec![(5, y), (30, y)], style))?;
        legend.draw(&Circle::new((17, y), 3, color(&names, name).filled()))?;
        legend.draw(&Text::new(*name, (38, y - 8), ("sans-serif", 16)))?;
    }
    Ok(root.present()?)
}

fn draw_panel(area: &Area, panel: &Panel, names: &[&str]) -> Drawn {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let (left, right) = bounds(points().map(|(x, _)| *x));
    let (low, high) = bounds(points().flat_map(|(_, summary)| ends(summary)));
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 19))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(left..right, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(panel.axis)
        .label_style(("sans-serif", 15))
        .x_labels(6)
        .x_label_formatter(&tick_label)
        .y_labels(8)
        .draw()?;
    for line in &panel.lines {
        let color = color(names, line.name);
        let means = line.points.iter().map(|(x, summary)| (*x, summary.mean));
        chart.draw_series(LineSeries::new(means, color.stroke_width(2)).point_size(3))?;
        let spreads = line.points.iter().map(|(x, summary)| {
            let [from, to] = ends(summary);
            PathElement::new(vec![(*x, from), (*x, to)], color.stroke_width(1))
        });
        chart.draw_series(spreads)?;
    }
    Ok(())
}

/// The label of a tick; empty between whole numbers.
fn tick_label(x: &f64) -> String {
    if (x - x.round()).abs() < 1e-6 {
        format!("{x:.0}")
    } else {
        String::new()
    }
}

/// The mean minus and plus the spread.
fn ends(summary: &Summary) -> [f64; 2] {
    let spread = summary.spread.unwrap_or(0.);
    [summary.mean - spread, summary.mean + spread]
}

/// The smallest and the largest value, with a margin.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let room = 0.08 * (high - low).max(1e-3);
    (low - room, high + room)
}

fn color(names: &[&str], name: &str) -> RGBColor {
    let place = names.iter().position(|known| *known == name).unwrap_or_default();
    COLORS[place % COLORS.len()]
}
