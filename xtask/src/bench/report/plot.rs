//! Draws curves as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::bench::curve::Curve;

const SIZE: (u32, u32) = (760, 440);
const MARGIN: u32 = 12;
const FONT: (&str, u32) = ("sans-serif", 14);
/// Colours that people with any kind of sight tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 5] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167), RGBColor(86, 86, 86)];

/// Draws a curve, with both axes logarithmic, or the vertical one from zero where all values are about one.
///
/// # Errors
/// There is nothing to draw, or the file cannot be written.
pub(crate) fn draw(curve: &Curve, file: &Path) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", file.display());
    let points = || curve.series.iter().flat_map(|series| &series.points);
    let (low_x, high_x) = range(points().map(|point| point.0)).ok_or_else(|| failed(&"there is no point"))?;
    let (low_y, high_y) = range(points().map(|point| point.1)).ok_or_else(|| failed(&"there is no point"))?;
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut builder = ChartBuilder::on(&area);
    builder
        .margin(MARGIN)
        .margin_right(3 * MARGIN)
        .caption(&curve.title, ("sans-serif", 18))
        .x_label_area_size(40)
        .y_label_area_size(60);
    // The macro is for two kinds of axes, which are of different types.
    macro_rules! chart {
        ($y:expr) => {{
            let mut chart =
                builder.build_cartesian_2d((low_x..high_x).log_scale(), $y).map_err(|error| failed(&error))?;
            let mut mesh = chart.configure_mesh();
            mesh.x_desc(&curve.x).y_desc(&curve.y).label_style(FONT).axis_desc_style(FONT).light_line_style(WHITE);
            mesh.x_labels(6).x_label_formatter(&|x| shown(*x)).draw().map_err(|error| failed(&error))?;
            for (series, colour) in curve.series.iter().zip(COLOURS.iter().cycle()) {
                let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)).point_size(3);
                let drawn = chart.draw_series(line).map_err(|error| failed(&error))?;
                drawn
                    .label(&series.name)
                    .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
            let mut labels = chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).label_font(FONT);
            labels.draw().map_err(|error| failed(&error))?;
        }};
    }
    if low_y > 0.1 && high_y < 10.0 {
        chart!(0.0..high_y * 1.5);
    } else {
        chart!((low_y / 2.0..high_y * 10.0).log_scale());
    }
    area.present().map_err(|error| failed(&error))
}

/// A number of an axis: thousands in short.
fn shown(value: f64) -> String {
    if value < 1000.0 { format!("{value}") } else { format!("{}k", value / 1000.0) }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}
