//! The rows of the comparisons.

use serde_json::{Value, json};

use super::{heading, summary, time};
use crate::{
    actors::{options::Options, rounds::Compared},
    table::Table,
};

/// A heading, what the columns mean and a table; nothing if nothing was compared.
pub(super) fn markdown(options: &Options, compared: &[Compared]) -> String {
    if compared.is_empty() {
        return String::new();
    }
    let columns = options.threads.iter().map(|&threads| heading(threads));
    let columns = ["which", "against"].into_iter().chain(columns);
    let mut table = Table::new(columns.map(str::to_owned));
    for comparison in &options.comparisons {
        let names = [
            comparison.subject.to_string(),
            comparison.reference.to_string(),
        ];
        let ratios = compared
            .iter()
            .filter(|compared| compared.comparison.name == comparison.name)
            .map(ratio);
        table.row(comparison.name, names.into_iter().chain(ratios));
    }
    format!(
        "\n# Spark, against itself and the loop\n\n\
         Median of {} rounds of {} ms, or of ten times as many that are a tenth as long: the ratio of \
         the same round, ± half its 95 % confidence interval, what it should be at most, and \
         the times of one operation.\n\n{table}",
        options.rounds,
        options.slice.as_millis(),
    )
}

/// One comparison on one number of threads, as JSON.
pub(super) fn json(compared: &Compared) -> Value {
    let comparison = &compared.comparison;
    json!({
        "name": comparison.name,
        "subject": comparison.subject.to_string(),
        "reference": comparison.reference.to_string(),
        "threads": compared.threads.count(),
        "limit": comparison.limit.map(|limit| limit.on(compared.threads)),
        "ratio": summary(compared.ratio),
        "subject_nanoseconds": summary(compared.subject),
        "reference_nanoseconds": summary(compared.reference),
    })
}

fn ratio(compared: &Compared) -> String {
    let median = compared.ratio.median;
    let limit = compared.comparison.limit.map(|limit| {
        let limit = limit.on(compared.threads);
        let kept = if median <= limit { '≤' } else { '>' };
        format!(" {kept} {limit:.2}")
    });
    format!(
        "{median:.3} ±{:.3}{} ({} / {})",
        compared.ratio.spread(),
        limit.unwrap_or_default(),
        time(compared.subject.median),
        time(compared.reference.median),
    )
}
