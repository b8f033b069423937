//! A figure, what it is compared with, and what is asked of it.

use super::{
    contender::Contender,
    target::{Target, Verdict},
};
use crate::statistics::Summary;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests answered per second, at most.
    Throughput,
    /// The median of microseconds per request, at half load.
    Median,
    /// The 99th percentile of microseconds per request, at half load.
    P99,
    /// Resident bytes per idle connection.
    IdleBytes,
    /// Resident bytes that requests for unknown names left behind.
    UnknownBytes,
}

/// One contender's figure of one measure.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub measure: Measure,
    /// Of whom.
    pub contender: Contender,
    /// The figure itself.
    pub figure: Summary,
    /// Another's figure, and the ratio to it in the same round.
    pub ratio: Option<(Contender, Summary)>,
    /// What is asked: of the ratio, or of the figure if there is none.
    pub target: Option<Target>,
}

// === impl Measure ===

impl Measure {
    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "requests/s",
            Self::Median => "median at half load, µs",
            Self::P99 => "p99 at half load, µs",
            Self::IdleBytes => "bytes per idle connection",
            Self::UnknownBytes => "bytes left by unknown names",
        }
    }

    /// The name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Throughput => "requests_per_second",
            Self::Median => "median_microseconds",
            Self::P99 => "p99_microseconds",
            Self::IdleBytes => "bytes_per_idle_connection",
            Self::UnknownBytes => "bytes_left_by_unknown_names",
        }
    }

    /// With whom Spark is compared, and what is asked of it then.
    fn asked(self, reference: Contender) -> Option<Target> {
        match (self, reference) {
            (Self::Throughput, Contender::Axum) => Some(Target::AtLeast(0.9)),
            (Self::Throughput, Contender::ManagerHandlers) => Some(Target::AtLeast(1.2)),
            (Self::P99, Contender::Axum) => Some(Target::AtMost(1.2)),
            (Self::IdleBytes, Contender::Axum) => Some(Target::AtMost(1.1)),
            _ => None,
        }
    }
}

// === impl Row ===

impl Row {
    /// The rows of a measure: those of all contenders, beside axum's, and Spark's once more beside
    /// those of `manager_handlers`. The samples are the contenders', in their order.
    pub(super) fn all(
        measure: Measure,
        contenders: &[Contender],
        samples: &[Vec<f64>],
    ) -> Vec<Self> {
        let beside = |reference: Contender| {
            let base = contenders.iter().position(|&other| other == reference);
            contenders
                .iter()
                .zip(samples)
                .map(move |(&contender, values)| {
                    let compares = contender != reference && measure != Measure::UnknownBytes;
                    let base = base.filter(|_| compares);
                    let asked = contender.is_spark().then(|| match measure {
                        Measure::UnknownBytes => Some(FLAT),
                        _ => measure.asked(reference),
                    });
                    Self {
                        measure,
                        contender,
                        figure: Summary::of(values),
                        ratio: base
                            .map(|base| (reference, Summary::of_ratios(values, &samples[base]))),
                        target: asked.flatten(),
                    }
                })
        };
        let peers = beside(Contender::ManagerHandlers)
            .filter(|row| row.contender.is_spark() && row.ratio.is_some() && row.target.is_some());
        beside(Contender::Axum).chain(peers).collect()
    }

    /// Whether it is as asked. `None` if nothing is asked.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let judged = self.ratio.map_or(self.figure, |(_, ratio)| ratio);
        self.target.map(|target| target.judge(judged))
    }
}

/// Less than four bytes for each of 10 000 names: whoever keeps anything of a name keeps more.
const FLAT: Target = Target::AtMost(40_000.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spark_is_judged_by_axum_and_by_manager_handlers() {
        use Contender::{Axum, ManagerHandlers, Spark};
        let contenders = [Axum, Spark, ManagerHandlers];
        let samples = [vec![100.0], vec![95.0], vec![50.0]];

        let rows = Row::all(Measure::Throughput, &contenders, &samples);

        let judged: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.contender,
                    row.ratio.map(|(with, _)| with),
                    row.verdict(),
                )
            })
            .collect();
        let reached = Some(Verdict::Reached);
        assert_eq!(
            judged,
            [
                (Axum, None, None),
                (Spark, Some(Axum), reached),
                (ManagerHandlers, Some(Axum), None),
                (Spark, Some(ManagerHandlers), reached),
            ]
        );
    }

    #[test]
    fn memory_that_unknown_names_leave_is_judged_as_it_is() {
        let contenders = [Contender::Axum, Contender::Spark];
        let samples = [vec![0.0], vec![160_000.0]];

        let rows = Row::all(Measure::UnknownBytes, &contenders, &samples);

        assert!(rows.iter().all(|row| row.ratio.is_none()));
        assert_eq!(rows[1].verdict(), Some(Verdict::Missed));
    }
}
