//! Prints measured cells: Markdown for people, JSON for programs.

use serde_json::{Value, json};

use self::table::Table;
use super::{
    case::{Case, Counted, Timed},
    contender::Threads,
    options::Options,
    rounds::Cell,
    statistics::Summary,
};

mod table;

/// Formats `cells` as Markdown: a table per number of threads, one for what was counted, and how
/// each contender was configured.
pub fn markdown(options: &Options, cells: &[Cell]) -> String {
    let mut text = format!(
        "# One module, against a hand-written loop\n\n\
         Median of {} rounds of {} ms: the ratio to the baseline of the same round (less is faster), \
         ± half the distance between its quartiles, and the time of one operation.\n",
        options.rounds,
        options.slice.as_millis(),
    );
    for &threads in &options.threads {
        let timed: Vec<&Cell> = cells
            .iter()
            .filter(|cell| matches!(cell.case, Case::Timed(_)) && cell.threads == threads)
            .collect();
        let heading = match threads {
            Threads::One => "One thread",
            Threads::Two => "Two threads",
        };
        text += &section(heading, options, &timed);
    }
    let counted: Vec<&Cell> = cells
        .iter()
        .filter(|cell| matches!(cell.case, Case::Counted(_)))
        .collect();
    text += &section("Memory", options, &counted);

    text += "\n## Configuration\n\n";
    for entrant in &options.contenders {
        text.extend(["* **", entrant.name, "**: ", entrant.about, "\n"]);
    }
    text
}

/// Formats `cells` as JSON: one object per cell, and how they were measured.
pub fn json(options: &Options, cells: &[Cell]) -> Value {
    json!({
        "rounds": options.rounds,
        "slice_ms": options.slice.as_millis(),
        "contenders": options.contenders.iter().map(|entrant| json!({
            "name": entrant.name,
            "about": entrant.about,
        })).collect::<Vec<_>>(),
        "cells": cells.iter().map(|cell| json!({
            "contender": cell.contender,
            "case": cell.case.to_string(),
            "threads": cell.threads.count(),
            "unit": unit(cell.case),
            "value": summary(cell.value),
            "ratio": cell.ratio.map(summary),
        })).collect::<Vec<_>>(),
    })
}

/// A heading and a table, or nothing if there is nothing to show.
fn section(heading: &str, options: &Options, cells: &[&Cell]) -> String {
    let cases: Vec<Case> = options
        .cases
        .iter()
        .copied()
        .filter(|case| cells.iter().any(|cell| cell.case == *case))
        .collect();
    if cases.is_empty() {
        return String::new();
    }
    let mut table = Table::new(cases.iter().map(|case| column(*case)));
    for entrant in &options.contenders {
        let of_contender = cells.iter().filter(|cell| cell.contender == entrant.name);
        table.row(entrant.name, of_contender.map(|cell| text_of(cell)));
    }
    format!("\n## {heading}\n\n{table}")
}

fn column(case: Case) -> String {
    match case {
        Case::Timed(Timed::Ask { callers: 1 }) => "ask, 1 caller".to_owned(),
        Case::Timed(Timed::Ask { callers }) => format!("ask, {callers} callers"),
        Case::Timed(Timed::Tell { producers: 1 }) => "tell, 1 producer".to_owned(),
        Case::Timed(Timed::Tell { producers }) => format!("tell, {producers} producers"),
        Case::Timed(Timed::Spawn) => "start, ask, stop".to_owned(),
        Case::Counted(Counted::Memory) => "bytes per idle module".to_owned(),
        Case::Counted(Counted::AllocationsPerAsk) => "allocations per ask".to_owned(),
        Case::Counted(Counted::AllocationsPerTell) => "allocations per tell".to_owned(),
    }
}

fn text_of(cell: &Cell) -> String {
    match (cell.case, cell.ratio) {
        (Case::Timed(_), Some(ratio)) => format!(
            "{:.2} ±{:.2} ({})",
            ratio.median,
            ratio.spread(),
            time(cell.value.median)
        ),
        (Case::Timed(_), None) => time(cell.value.median),
        (Case::Counted(Counted::Memory), _) => format!("{:.0}", cell.value.median),
        (Case::Counted(_), _) => format!("{:.2}", cell.value.median),
    }
}

fn time(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.0} ns")
    } else {
        format!("{:.1} µs", nanoseconds / 1e3)
    }
}

fn unit(case: Case) -> &'static str {
    match case {
        Case::Timed(_) => "nanoseconds",
        Case::Counted(Counted::Memory) => "bytes",
        Case::Counted(_) => "allocations",
    }
}

fn summary(summary: Summary) -> Value {
    json!({
        "median": summary.median,
        "lower_quartile": summary.lower,
        "upper_quartile": summary.upper,
    })
}
