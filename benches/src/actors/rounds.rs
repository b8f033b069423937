//! Takes turns: which contender runs when, for how long, and what comes of it.

use std::time::Duration;

use super::{
    case::{self, Case, Counted, Slice, Timed},
    contender::{
        Contender, Threads, actix::Actix, baseline::Baseline, kameo::Kameo, ractor::Ractor,
        spark::Spark, spark_async_trait::SparkAsyncTrait, spark_channel_003::SparkChannel003,
        xtra::Xtra,
    },
    options::Options,
    statistics::Summary,
};

/// A contender, with its type erased.
#[derive(Debug, Clone, Copy)]
pub struct Entrant {
    /// [`Contender::NAME`].
    pub name: &'static str,
    /// [`Contender::ABOUT`].
    pub about: &'static str,
    time: fn(Timed, Threads, u32) -> Slice,
    count: fn(Counted, u32) -> f64,
}

/// One measured cell of the tables.
#[derive(Debug, Clone)]
pub struct Cell {
    /// [`Entrant::name`].
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

// === impl Entrant ===

impl Entrant {
    /// All contenders, in the order of the rows. The baseline is the first.
    pub const ALL: [Self; 8] = [
        Self::of::<Baseline>(),
        Self::of::<Spark>(),
        Self::of::<SparkAsyncTrait>(),
        Self::of::<SparkChannel003>(),
        Self::of::<Ractor>(),
        Self::of::<Kameo>(),
        Self::of::<Actix>(),
        Self::of::<Xtra>(),
    ];

    const fn of<C: Contender>() -> Self {
        Self {
            name: C::NAME,
            about: C::ABOUT,
            time: case::time::<C>,
            count: case::count::<C>,
        }
    }
}

/// Measures everything `options` ask for. `progress` is told what comes next.
pub fn measure(options: &Options, mut progress: impl FnMut(&str)) -> Vec<Cell> {
    let mut order = Order::new();
    let mut cells = Vec::new();
    for &threads in &options.threads {
        for &case in &options.cases {
            if let Case::Timed(timed) = case {
                progress(&format!("{case}, threads: {}", threads.count()));
                cells.extend(take_turns(options, timed, threads, &mut order));
            }
        }
    }
    for &case in &options.cases {
        if let Case::Counted(counted) = case {
            progress(&case.to_string());
            cells.extend(options.contenders.iter().map(|entrant| Cell {
                contender: entrant.name,
                case,
                threads: Threads::One,
                value: Summary::of(&[(entrant.count)(counted, options.operations(counted))]),
                ratio: None,
            }));
        }
    }
    cells
}

/// Runs all rounds of one case. The contender at index zero is the baseline.
fn take_turns(options: &Options, case: Timed, threads: Threads, order: &mut Order) -> Vec<Cell> {
    let contenders = &options.contenders;
    let mut operations: Vec<u32> = contenders
        .iter()
        .map(|entrant| calibrate(entrant, case, threads, options.slice))
        .collect();

    let mut values = vec![Vec::new(); contenders.len()];
    for _ in 0..options.rounds {
        for index in order.shuffled(contenders.len()) {
            let slice = (contenders[index].time)(case, threads, operations[index]);
            values[index].push(slice.nanoseconds());
            operations[index] = scaled(slice, options.slice);
        }
    }

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

/// Finds out how many operations fill a slice.
fn calibrate(entrant: &Entrant, case: Timed, threads: Threads, target: Duration) -> u32 {
    let mut operations = 64;
    loop {
        let slice = (entrant.time)(case, threads, operations);
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

/// A reproducible source of shuffled orders (`SplitMix64` and Fisher-Yates), so that no contender is
/// always measured after the same one.
#[derive(Debug)]
struct Order {
    state: u64,
}

// === impl Order ===

impl Order {
    fn new() -> Self {
        Self { state: 0 }
    }

    fn shuffled(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below `bound`"
    )]
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_contender_once() {
        let mut order = Order::new();

        for _ in 0..100 {
            let mut round = order.shuffled(8);
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }

    #[test]
    fn a_slice_grows_at_most_eightfold() {
        let slice = Slice {
            operations: 100,
            elapsed: Duration::from_micros(1),
        };

        assert_eq!(scaled(slice, Duration::from_secs(1)), 800);
    }

    #[test]
    fn a_slice_that_took_too_long_shrinks() {
        let slice = Slice {
            operations: 100,
            elapsed: Duration::from_millis(40),
        };

        assert_eq!(scaled(slice, Duration::from_millis(10)), 25);
    }
}
