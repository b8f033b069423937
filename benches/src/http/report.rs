//! Prints what was measured: Markdown for people, JSON for programs.

use serde_json::{Value, json};

use super::{
    measure::Measured,
    options::Options,
    row::{Measure, Row},
    target::Verdict,
};
use crate::{statistics::Summary, table::Table};

/// Formats what was measured as Markdown: a table, and how it came about.
#[must_use]
pub fn markdown(options: &Options, measured: &Measured) -> String {
    let columns = ["figure", "ratio", "asked", "reached"];
    let mut table = Table::new(columns.map(str::to_owned));
    for row in &measured.rows {
        table.row(
            &format!("{}: {}", row.measure.name(), row.contender),
            [
                figure(row.measure, row.figure),
                row.ratio.map_or_else(String::new, |(reference, ratio)| {
                    format!("{:.2} ±{:.2} of {reference}", ratio.median, ratio.spread())
                }),
                asked(row),
                row.verdict()
                    .map_or_else(String::new, |verdict| verdict.to_string()),
            ],
        );
    }
    let about: Vec<String> = options
        .contenders
        .iter()
        .map(|contender| format!("* {contender}: {}\n", contender.about()))
        .collect();
    let cores = match measured.cores {
        Some(_) => "servers on one core, the load on another",
        None => "servers and load on the same cores",
    };
    format!(
        "{} rounds of {} ms, {} connections, {cores}; medians, ± is half their 95 % \
         confidence interval.\n\
         Half load is {:.0} requests/s. The load itself was up to {:.0} ±{:.0} µs late (p99).\n\
         Another program had one of the cores: {} turns taken again, {} kept.\n\
         \n{table}\n{}",
        options.rounds,
        options.slice.as_millis(),
        options.connections,
        measured.half_load,
        measured.late.median,
        measured.late.spread(),
        measured.repeated,
        measured.disturbed,
        about.concat(),
    )
}

/// What was measured as JSON.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let row = |row: &Row| {
        json!({
            "measure": row.measure.key(),
            "contender": row.contender.name(),
            "median": row.figure.median,
            "spread": row.figure.spread(),
            "ratio": row.ratio.map(|(reference, ratio)| json!({
                "of": reference.name(),
                "median": ratio.median,
                "spread": ratio.spread(),
            })),
            "asked": row.target.map(|target| target.to_string()),
            "reached": row.verdict().map(Verdict::is_reached),
        })
    };
    json!({
        "apart": measured.cores.is_some(),
        "half_load": measured.half_load,
        "late_p99_microseconds": measured.late.median,
        "repeated": measured.repeated,
        "disturbed": measured.disturbed,
        "rows": measured.rows.iter().map(row).collect::<Value>(),
    })
}

fn figure(measure: Measure, figure: Summary) -> String {
    match measure {
        Measure::Median | Measure::P99 => format!("{:.1} ±{:.1}", figure.median, figure.spread()),
        _ => format!("{:.0} ±{:.0}", figure.median, figure.spread()),
    }
}

fn asked(row: &Row) -> String {
    row.target
        .map_or_else(String::new, |target| target.to_string())
}
