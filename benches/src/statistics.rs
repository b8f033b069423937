//! Medians of rounds, and ratios taken round by round.

/// The middle of some values, and how well they tell it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// Where the 95 % confidence interval of the median begins.
    pub lower: f64,
    /// Where it ends.
    pub upper: f64,
}

// === impl Summary ===

impl Summary {
    /// Summarises `values`. The interval is that between order statistics, which supposes nothing of
    /// how they are distributed: of `n` independent values, about `(n - √n · 1.96) / 2` are below
    /// it, and as many above. Of five or fewer, it is all of them.
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "nothing to summarise");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = (sorted.len() - 1) as f64 / 2.0;
        // Of values that are above the median or below it as a coin falls, √n / 2 is the deviation.
        let reach = 1.96 * (sorted.len() as f64).sqrt() / 2.0;
        Self {
            median: at_rank(&sorted, middle),
            lower: at_rank(&sorted, (middle - reach).max(0.0)),
            upper: at_rank(&sorted, (middle + reach).min(2.0 * middle)),
        }
    }

    /// Summarises the ratios of values measured in the same round.
    ///
    /// # Panics
    ///
    /// Panics if there are none, or not as many of one as of the other.
    pub fn of_ratios(values: &[f64], baseline: &[f64]) -> Self {
        assert_eq!(values.len(), baseline.len(), "rounds come in pairs");
        let ratios: Vec<f64> = values.iter().zip(baseline).map(|(v, b)| v / b).collect();
        Self::of(&ratios)
    }

    /// Half the length of the confidence interval.
    pub fn spread(self) -> f64 {
        (self.upper - self.lower) / 2.0
    }
}

/// Interpolates linearly between the two nearest ranks.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is between zero and the length"
)]
fn at_rank(sorted: &[f64], rank: f64) -> f64 {
    let below = sorted[rank.floor() as usize];
    let above = sorted[rank.ceil() as usize];
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_values_the_interval_is_all_of_them() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);

        assert_eq!(
            summary,
            Summary {
                median: 2.5,
                lower: 1.0,
                upper: 4.0
            }
        );
    }

    #[test]
    fn the_more_values_the_closer_the_interval() {
        let summary = |count: u32| {
            let values = (0..count).map(|value| f64::from(value) / f64::from(count - 1));
            Summary::of(&values.collect::<Vec<_>>())
        };

        let [few, many] = [101, 10_001].map(summary);
        assert_eq!((few.median, many.median), (0.5, 0.5));
        // 1.96 · √101 / 2 ranks of 100, and a tenth of that.
        assert!((few.spread() - 0.0985).abs() < 1e-4, "{few:?}");
        assert!((many.spread() - 0.0098).abs() < 1e-4, "{many:?}");
    }

    #[test]
    fn the_interval_holds_the_median_19_times_in_20() {
        let mut random = 1_u64;
        let mut coin = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as f64 / (1_u64 << 53) as f64
        };
        for count in [15, 25, 300] {
            let held = (0..2_000).filter(|_| {
                // Skewed, as times are; its median is 1/8.
                let values: Vec<f64> = (0..count).map(|_| coin().powi(3)).collect();
                let summary = Summary::of(&values);
                summary.lower <= 0.125 && 0.125 <= summary.upper
            });
            let held = held.count();
            assert!(
                (1_860..=1_960).contains(&held),
                "{held} of 2000 for {count}"
            );
        }
    }

    #[test]
    fn one_round_is_its_own_summary() {
        let summary = Summary::of(&[7.0]);

        assert_eq!(
            summary,
            Summary {
                median: 7.0,
                lower: 7.0,
                upper: 7.0
            }
        );
    }

    #[test]
    fn the_median_of_ratios_is_not_the_ratio_of_medians() {
        // The machine was three times slower in the second round, for both.
        let ratio = Summary::of_ratios(&[2.0, 6.0, 2.0], &[1.0, 3.0, 1.0]);

        assert_eq!(
            ratio,
            Summary {
                median: 2.0,
                lower: 2.0,
                upper: 2.0
            }
        );
    }
}
