//! Prints what was measured: Markdown for people, JSON for programs.

use serde_json::{Value, json};

use super::{
    measure::{Case, Cell},
    options::Options,
};
use crate::table::Table;

/// Formats the cells as Markdown: a table for each share of writes, and how each contender was set up.
#[must_use]
pub fn markdown(options: &Options, cells: &[Cell]) -> String {
    let head = format!(
        "{} rounds of {} operations per thread, medians; times that of `dashmap` in the same round (± half its\n\
         95 % confidence interval), and nanoseconds per operation of a thread.\n",
        options.rounds, options.operations,
    );
    let cases = Case::all(&options.threads);
    let mut table = Table::new(cases.iter().map(ToString::to_string));
    for entrant in &options.entrants {
        let row = cases.iter().map(|case| {
            let cell = cells
                .iter()
                .find(|cell| cell.case == *case && cell.entrant.name == entrant.name);
            cell.map_or_else(String::new, |cell| {
                let (ratio, value) = (cell.ratio, cell.value);
                let (times, spread) = (ratio.median, ratio.spread());
                format!("{times:.2} ±{spread:.2} ({:.0} ns)", value.median)
            })
        });
        table.row(entrant.name, row);
    }
    let about = options.entrants.iter();
    let about: Vec<_> = about
        .map(|e| format!("* {}: {}\n", e.name, e.about))
        .collect();
    format!("{head}\n{table}\n{}", about.concat())
}

/// The cells as JSON.
#[must_use]
pub fn json(cells: &[Cell]) -> Value {
    let cell = |cell: &Cell| {
        json!({
            "contender": cell.entrant.name,
            "threads": cell.case.threads,
            "writes_percent": cell.case.writes_percent,
            "nanoseconds": cell.value.median,
            "ratio": cell.ratio.median,
        })
    };
    cells.iter().map(cell).collect()
}
