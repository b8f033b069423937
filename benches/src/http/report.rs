//! Prints what was measured: Markdown for people, JSON for programs.

use serde_json::{Value, json};

use super::{
    measure::{Measured, Row},
    options::Options,
};
use crate::{statistics::Summary, table::Table};

/// Formats the rows as Markdown: a table, and how each contender was configured.
#[must_use]
pub fn markdown(options: &Options, rows: &[Row]) -> String {
    let columns = [
        "requests/s",
        "of axum's",
        "p99 at half load",
        "of axum's",
        "bytes per idle connection",
        "left by unknown names",
    ];
    let mut table = Table::new(columns.map(str::to_owned));
    for row in rows {
        table.row(
            row.contender.name(),
            [
                format!("{:.0}", row.throughput.value.median),
                ratio(row.throughput.ratio),
                format!("{:.0} µs", row.latency.value.median),
                ratio(row.latency.ratio),
                format!("{:.0}", row.idle_bytes),
                format!("{:.0} KiB", row.unknown_bytes / 1024.0),
            ],
        );
    }
    let about: Vec<String> = rows
        .iter()
        .map(|row| format!("* {}: {}\n", row.contender, row.contender.about()))
        .collect();
    format!(
        "{} rounds of {} ms, {} connections, medians; ± is half the distance between the quartiles.\n\
         \n{table}\n{}",
        options.rounds,
        options.slice.as_millis(),
        options.connections,
        about.concat(),
    )
}

/// The rows as JSON.
#[must_use]
pub fn json(rows: &[Row]) -> Value {
    let measured = |measured: &Measured| json!({ "median": measured.value.median, "ratio": measured.ratio.median });
    let row = |row: &Row| {
        json!({
            "contender": row.contender.name(),
            "requests_per_second": measured(&row.throughput),
            "p99_microseconds": measured(&row.latency),
            "bytes_per_idle_connection": row.idle_bytes,
            "bytes_left_by_unknown_names": row.unknown_bytes,
        })
    };
    rows.iter().map(row).collect()
}

fn ratio(ratio: Summary) -> String {
    format!("{:.2} ±{:.2}", ratio.median, ratio.spread())
}
