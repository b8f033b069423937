//! Prints measured cells: Markdown for people, JSON for programs.

use serde_json::{Value, json};

use super::{
    case::{Case, Counted, Timed},
    contender::Threads,
    options::Options,
    rounds::{Cell, Compared},
};
use crate::{statistics::Summary, table::Table};

mod comparisons;

/// Formats what was measured as Markdown: a table per number of threads and one for what was
/// counted, the comparisons, and how each contender was configured.
pub fn markdown(options: &Options, cells: &[Cell], compared: &[Compared]) -> String {
    let mut text = if cells.is_empty() {
        String::new()
    } else {
        format!(
            "# One module, against a hand-written loop\n\n\
             Median of {} rounds of {} ms: the ratio to the baseline of the same round (less is \
             faster), ± half its 95 % confidence interval, and the time of one operation.\n",
            options.rounds,
            options.slice.as_millis(),
        )
    };
    let timed = |case| matches!(case, Case::Timed(_));
    let counted = |case| matches!(case, Case::Counted(_));
    for &threads in &options.threads {
        text += &section(heading(threads), options, threads, timed, cells);
    }
    for &threads in &options.threads {
        let heading = format!("Memory, {}", heading(threads).to_lowercase());
        text += &section(&heading, options, threads, counted, cells);
    }
    text += &comparisons::markdown(options, compared);

    if !options.contenders.is_empty() {
        text += "\n## Configuration\n\n";
    }
    for entrant in &options.contenders {
        text.extend(["* **", entrant.name, "**: ", entrant.about, "\n"]);
    }
    text
}

/// Formats what was measured as JSON: one object per cell and per comparison, and how they were
/// measured.
pub fn json(options: &Options, cells: &[Cell], compared: &[Compared]) -> Value {
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
        "comparisons": compared.iter().map(comparisons::json).collect::<Vec<_>>(),
    })
}

/// A heading and a table of the cells with that many threads and such a case, or nothing if there
/// are none.
fn section(
    heading: &str,
    options: &Options,
    threads: Threads,
    shown: impl Fn(Case) -> bool,
    cells: &[Cell],
) -> String {
    let cases = options.cases.iter().copied();
    let cases: Vec<Case> = cases.filter(|&case| shown(case)).collect();
    if cases.is_empty() {
        return String::new();
    }
    let mut table = Table::new(cases.iter().map(|case| column(*case)));
    for entrant in &options.contenders {
        let row = cells.iter().filter(|cell| {
            cell.contender == entrant.name && cell.threads == threads && shown(cell.case)
        });
        table.row(entrant.name, row.map(text_of));
    }
    format!("\n## {heading}\n\n{table}")
}

fn heading(threads: Threads) -> &'static str {
    match threads {
        Threads::One => "One thread",
        Threads::Two => "Two threads",
    }
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
        "lower": summary.lower,
        "upper": summary.upper,
    })
}
