//! The figures of all rounds: a table of medians with ratios to the floors, and JSON with every single one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each benchmark has units of its own")]
pub(crate) enum Unit {
    Milliseconds,
    MicrosecondsPerCallback,
    CallbacksPerSecond,
    FramesPerSecond,
    MebibytesPerSecond,
    Mebibytes,
    PercentOfCore,
    PerCallback,
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Milliseconds => "ms",
            Self::MicrosecondsPerCallback => "µs",
            Self::CallbacksPerSecond | Self::FramesPerSecond => "/s",
            Self::MebibytesPerSecond => "MiB/s",
            Self::Mebibytes => "MiB",
            Self::PercentOfCore => "% of a core",
            Self::PerCallback => "a callback",
        })
    }
}

/// Figures by what they measure and whose they are, in the order in which they came first.
pub(crate) struct Report {
    /// What every row is compared with: the name of the column, and that of the row.
    floors: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

struct Figure {
    name: String,
    unit: Unit,
    rows: Vec<(String, Vec<f64>)>,
}

impl Report {
    pub(crate) fn new(floors: Vec<(&'static str, String)>) -> Self {
        Self { floors, figures: Vec::new() }
    }

    /// One more value of the figure `name` of the server `row`.
    pub(crate) fn add(&mut self, row: &str, name: &str, unit: Unit, value: f64) {
        let at = self.figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            self.figures.push(Figure { name: name.to_owned(), unit, rows: Vec::new() });
            self.figures.len() - 1
        });
        let rows = &mut self.figures[at].rows;
        match rows.iter_mut().find(|(known, _)| known == row) {
            Some((_, values)) => values.push(value),
            None => rows.push((row.to_owned(), vec![value])),
        }
    }

    pub(crate) fn write(&self, file: &Path) {
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|figure| {
                let rows: BTreeMap<_, _> = figure.rows.iter().map(|(row, values)| (row, values)).collect();
                json!({"figure": figure.name, "unit": figure.unit.to_string(), "values": rows})
            })
            .collect();
        fs::write(file, serde_json::to_string_pretty(&figures).unwrap()).unwrap();
        eprintln!("every figure of every round: {}", file.display());
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "| figure | of | median | least to most |")?;
        for (column, _) in &self.floors {
            write!(formatter, " × {column} |")?;
        }
        writeln!(formatter)?;
        writeln!(formatter, "|---|---|---:|---:|{}", "---:|".repeat(self.floors.len()))?;
        for figure in &self.figures {
            for (row, values) in &figure.rows {
                let middle = median(values);
                let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let (name, unit) = (&figure.name, figure.unit);
                let (least, most) = (short(least), short(most));
                write!(formatter, "| {name} | {row} | {} {unit} | {least} to {most} |", short(middle))?;
                for (_, floor) in &self.floors {
                    let floor = figure.rows.iter().find(|(row, _)| row == floor).map(|(_, values)| median(values));
                    let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| short(middle / floor));
                    write!(formatter, " {} |", ratio.as_deref().unwrap_or("–"))?;
                }
                writeln!(formatter)?;
            }
        }
        Ok(())
    }
}
