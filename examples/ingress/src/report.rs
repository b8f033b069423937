//! What the program says when it has drained.

use serde_json::{Value, json};
use spark_channel::Report;
use spark_http::DrainReport;

/// All of it, for one line.
pub(crate) fn json(served: &DrainReport, modules: &[Report]) -> Value {
    json!({
        "connections": served.connections,
        "served": served.served,
        "refused": served.refused,
        "abandoned": served.abandoned,
        "cut": served.cut,
        "unresponsive": served.unresponsive,
        "upgraded": served.upgraded,
        "upgraded_cut": served.upgraded_cut,
        "deadline_passed": served.deadline_passed,
        "modules": modules.iter().map(module).collect::<Value>(),
    })
}

fn module(report: &Report) -> Value {
    let stats = &report.stats;
    json!({
        "module": &*report.module,
        "handled": stats.handled,
        "failed": stats.failed,
        "panicked": stats.panicked,
        "abandoned": stats.abandoned,
        "expired": stats.expired,
        "interrupted": stats.interrupted,
        "returned": stats.returned,
        "undelivered": stats.undelivered,
    })
}
