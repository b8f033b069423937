//! Who comes when in a round.

/// A reproducible source of shuffled orders (`SplitMix64` and Fisher-Yates), so that no contender is
/// always measured after the same one.
#[derive(Debug, Default)]
pub(crate) struct Order {
    state: u64,
}

// === impl Order ===

impl Order {
    pub(crate) fn shuffled(&mut self, len: usize) -> Vec<usize> {
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
        let mut order = Order::default();

        for _ in 0..100 {
            let mut round = order.shuffled(8);
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }
}
