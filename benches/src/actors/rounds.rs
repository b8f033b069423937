//! Takes turns: which contender runs when, for how long, and what comes of it.

use std::time::Duration;

use super::{
    case::{Case, Slice, Timed},
    comparison::{Comparison, Pace},
    contender::Threads,
    options::Options,
};
use crate::{order::Order, statistics::Summary};

/// One measured cell of the tables.
#[derive(Debug, Clone)]
pub struct Cell {
    /// [`Entrant::name`](super::entrant::Entrant::name).
    pub contender: &'static str,
    /// What was measured.
    pub case: Case,
    /// On how many threads.
    pub threads: Threads,
    /// Nanoseconds per operation, bytes or allocations; over all rounds.
    pub value: Summary,
    /// The value divided by the baseline's of the same round. None for counted cases, where the
    /// value says more, and where the baseline may be zero.
    pub ratio: Option<Summary>,
}

/// What came of a comparison.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What was compared.
    pub comparison: Comparison,
    /// On how many threads.
    pub threads: Threads,
    /// The subject's nanoseconds per operation, over all rounds.
    pub subject: Summary,
    /// The reference's.
    pub reference: Summary,
    /// The subject's divided by the reference's of the same round.
    pub ratio: Summary,
}

/// How many rounds there are, and how long a slice is.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: u32,
    slice: Duration,
}

// === impl Plan ===

impl Plan {
    fn of(options: &Options) -> Self {
        Self {
            rounds: options.rounds,
            slice: options.slice,
        }
    }

    fn at(self, pace: Pace) -> Self {
        match pace {
            Pace::Usual => self,
            Pace::Fine => Self {
                rounds: 10 * self.rounds,
                slice: self.slice / 10,
            },
        }
    }
}

/// Measures the cells that `options` ask for. `progress` is told what comes next.
pub fn measure(options: &Options, mut progress: impl FnMut(&str)) -> Vec<Cell> {
    let mut order = Order::default();
    let mut cells = Vec::new();
    for &threads in &options.threads {
        for &case in &options.cases {
            progress(&format!("{case}, threads: {}", threads.count()));
            match case {
                Case::Timed(timed) => {
                    cells.extend(measure_timed(options, timed, threads, &mut order));
                }
                Case::Counted(counted) => {
                    let operations = options.operations(counted);
                    cells.extend(options.contenders.iter().map(|entrant| Cell {
                        contender: entrant.name,
                        case,
                        threads,
                        value: Summary::of(&[(entrant.count)(counted, threads, operations)]),
                        ratio: None,
                    }));
                }
            }
        }
    }
    cells
}

/// Makes the comparisons that `options` ask for. `progress` is told what comes next.
pub fn compare(options: &Options, mut progress: impl FnMut(&str)) -> Vec<Compared> {
    let mut order = Order::default();
    let mut compared = Vec::new();
    for &threads in &options.threads {
        for &comparison in &options.comparisons {
            progress(&format!(
                "{}, threads: {}",
                comparison.name,
                threads.count()
            ));
            let runs = [comparison.subject, comparison.reference];
            let plan = Plan::of(options).at(comparison.pace);
            let values = take_turns(plan, 2, &mut order, |index, operations| {
                runs[index].time(threads, operations)
            });
            compared.push(Compared {
                comparison,
                threads,
                subject: Summary::of(&values[0]),
                reference: Summary::of(&values[1]),
                ratio: Summary::of_ratios(&values[0], &values[1]),
            });
        }
    }
    compared
}

/// Runs all rounds of one case. The contender at index zero is the baseline.
fn measure_timed(options: &Options, case: Timed, threads: Threads, order: &mut Order) -> Vec<Cell> {
    let contenders = &options.contenders;
    let plan = Plan::of(options);
    let values = take_turns(plan, contenders.len(), order, |index, operations| {
        (contenders[index].time)(case, threads, operations)
    });
    contenders
        .iter()
        .zip(&values)
        .map(|(entrant, own)| Cell {
            contender: entrant.name,
            case: Case::Timed(case),
            threads,
            value: Summary::of(own),
            ratio: Some(Summary::of_ratios(own, &values[0])),
        })
        .collect()
}

/// Gives each of `count` runs a slice per round; `run` is told which one and about how many
/// operations. Returns, for each run, the nanoseconds per operation in each round.
fn take_turns(
    plan: Plan,
    count: usize,
    order: &mut Order,
    run: impl Fn(usize, u32) -> Slice,
) -> Vec<Vec<f64>> {
    let mut operations: Vec<u32> = (0..count)
        .map(|index| calibrate(plan.slice, |operations| run(index, operations)))
        .collect();
    let mut values = vec![Vec::new(); count];
    for _ in 0..plan.rounds {
        for index in order.shuffled(count) {
            let slice = run(index, operations[index]);
            values[index].push(slice.nanoseconds());
            operations[index] = scaled(slice, plan.slice);
        }
    }
    values
}

/// Finds out how many operations fill a slice.
fn calibrate(target: Duration, run: impl Fn(u32) -> Slice) -> u32 {
    let mut operations = 64;
    loop {
        let slice = run(operations);
        let next = scaled(slice, target);
        // A quarter of a slice is long enough to be scaled up from.
        if slice.elapsed >= target / 4 || next <= slice.operations {
            return next;
        }
        operations = next;
    }
}

/// Returns how many operations would have filled `target`, at most eight times as many as before,
/// because the first slices say little about the later ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted of both ends"
)]
fn scaled(slice: Slice, target: Duration) -> u32 {
    let factor = target.as_secs_f64() / slice.elapsed.as_secs_f64().max(1e-9);
    (f64::from(slice.operations) * factor.min(8.0)).max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_grows_at_most_eightfold() {
        let slice = Slice {
            warm_up: 10,
            operations: 100,
            elapsed: Duration::from_micros(1),
        };

        assert_eq!(scaled(slice, Duration::from_secs(1)), 800);
    }

    #[test]
    fn a_slice_that_took_too_long_shrinks() {
        let slice = Slice {
            warm_up: 10,
            operations: 100,
            elapsed: Duration::from_millis(40),
        };

        assert_eq!(scaled(slice, Duration::from_millis(10)), 25);
    }
}
