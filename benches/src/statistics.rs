//! Medians of rounds, and ratios taken round by round.

/// The middle of some values, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The lower quartile.
    pub lower: f64,
    /// The upper quartile.
    pub upper: f64,
}

// === impl Summary ===

impl Summary {
    /// Summarises `values`.
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "nothing to summarise");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            lower: quantile(&sorted, 0.25),
            upper: quantile(&sorted, 0.75),
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

    /// Half the distance between the quartiles.
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
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let rank = (sorted.len() - 1) as f64 * fraction;
    let below = sorted[rank.floor() as usize];
    let above = sorted[rank.ceil() as usize];
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_interpolated() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);

        assert_eq!(
            summary,
            Summary {
                median: 2.5,
                lower: 1.75,
                upper: 3.25
            }
        );
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
