//! The plot of a setting: up to three panels of tokens per second, and a legend.

use std::path::Path;

use anyhow::{anyhow, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::contender::{Contender, HOST_LLAMA, LLAMA_CPP};
use super::results::{Measure, Results};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Speeds over the argument of a measure, such as the prompt length.
struct Panel {
    title: &'static str,
    axis: &'static str,
    arguments: Vec<usize>,
    /// For each contender, by its index, one value per argument; `None` where there is none.
    lines: Vec<(usize, Vec<Option<f64>>)>,
}

/// Writes an SVG file if there are values to plot.
pub fn save(results: &Results, path: &Path) -> Result<()> {
    let panels: Vec<Panel> =
        panels(results).into_iter().filter(|panel| !panel.arguments.is_empty()).collect();
    if panels.is_empty() {
        return Ok(());
    }
    let width = PANEL * panels.len() as u32 + LEGEND;
    let root = SVGBackend::new(path, (width, HEIGHT)).into_drawing_area();
    draw(&root, results, &panels).map_err(|error| anyhow!("{}: {error}", path.display()))
}

const PANEL: u32 = 380;
const LEGEND: u32 = 190;
const HEIGHT: u32 = 400;

fn panels(results: &Results) -> Vec<Panel> {
    let panel = |title, axis, measure: fn(usize) -> Measure, speed: fn(usize, f64) -> f64| {
        let arguments = results.arguments(measure);
        let value = |name: &str, &argument: &usize| {
            results.median(name, measure(argument)).map(|value| speed(argument, value))
        };
        let line = |(place, contender): (usize, &Contender)| {
            let name = contender.name();
            (place, arguments.iter().map(|argument| value(&name, argument)).collect())
        };
        let lines = results.contenders.iter().enumerate().map(line).collect();
        Panel { title, axis, arguments, lines }
    };
    vec![
        panel("Prefill, tokens/s", "tokens of the prompt", Measure::Prefill, |tokens, ms| {
            tokens as f64 / ms * 1e3
        }),
        panel("Decode, tokens/s", "tokens in the context", Measure::Decode, |_, ms| 1e3 / ms),
        panel("Concurrent requests, tokens/s", "requests", Measure::Concurrent, |_, speed| speed),
    ]
}

fn draw(
    root: &Area,
    results: &Results,
    panels: &[Panel],
) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let (charts, legend) = root.split_horizontally(PANEL * panels.len() as u32);
    for (area, panel) in charts.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(area, panel, &results.contenders)?;
    }
    draw_legend(&legend, results, panels)?;
    Ok(root.present()?)
}

fn draw_panel(
    area: &Area,
    panel: &Panel,
    contenders: &[Contender],
) -> Result<(), Box<dyn std::error::Error>> {
    let values = || panel.lines.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0., f64::max));
    let last = panel.arguments.len() - 1;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.2..last as f64 + 0.2, (low * 0.8..high * 1.25).log_scale())?;
    let argument = |x: &f64| {
        let near = (x - x.round()).abs() < 0.01;
        panel.arguments.get(x.round() as usize).filter(|_| near).map(usize::to_string)
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(panel.axis)
        .x_labels(panel.arguments.len() + 1)
        .x_label_formatter(&|x| argument(x).unwrap_or_default())
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (place, values) in &panel.lines {
        let color = color(&contenders[*place]);
        let points = values.iter().enumerate();
        let points = points.filter_map(|(x, value)| value.map(|value| (x as f64, value)));
        let line = LineSeries::new(points, color.stroke_width(2)).point_size(3);
        chart.draw_series(line)?;
    }
    Ok(())
}

fn draw_legend(
    area: &Area,
    results: &Results,
    panels: &[Panel],
) -> Result<(), Box<dyn std::error::Error>> {
    let text = ("sans-serif", 14).into_font();
    area.draw(&Text::new(results.setting.name(), (5, 16), text.clone()))?;
    let has_values = |place: usize| {
        let lines = panels.iter().flat_map(|panel| &panel.lines);
        lines.filter(|line| line.0 == place).any(|line| line.1.iter().any(Option::is_some))
    };
    let shown = results.contenders.iter().enumerate().filter(|(place, _)| has_values(*place));
    for (row, (_, contender)) in shown.enumerate() {
        let y = 44 + 20 * row as i32;
        let style = color(contender).stroke_width(2);
        area.draw(&PathElement::new(vec![(5, y), (30, y)], style))?;
        area.draw(&Circle::new((17, y), 3, color(contender).filled()))?;
        area.draw(&Text::new(contender.name(), (38, y - 7), text.clone()))?;
    }
    Ok(())
}

/// One hue per model; lighter for fewer chains.
fn color(contender: &Contender) -> RGBAColor {
    let name = contender.model.name();
    let hue = match (name.as_str(), contender.model.chains()) {
        (HOST_LLAMA, _) => RGBColor(130, 130, 130),
        (LLAMA_CPP, _) => RGBColor(0, 0, 0),
        (_, 1) => RGBColor(200, 120, 0),
        (name, 2) if name.starts_with("Air") => RGBColor(120, 60, 180),
        (name, _) if name.starts_with("Air") => RGBColor(200, 30, 50),
        (_, 2) => RGBColor(20, 130, 110),
        _ => RGBColor(30, 90, 200),
    };
    let of_chains = contender.k as f64 / contender.model.chains() as f64;
    hue.mix(0.3 + 0.7 * of_chains)
}
