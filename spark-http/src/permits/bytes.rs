//! How much memory bodies may take, all together.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Full;

/// A bounded number of bytes. Nobody waits for them: those who hold some already could be waiting for
/// each other.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    limit: usize,
    reserved: AtomicUsize,
}

/// Bytes of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    budget: &'a ByteBudget,
    bytes: usize,
}

// === impl ByteBudget ===

impl ByteBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            reserved: AtomicUsize::new(0),
        }
    }

    /// No bytes yet.
    pub(crate) fn reserve(&self) -> Reserved<'_> {
        Reserved {
            budget: self,
            bytes: 0,
        }
    }
}

// === impl Reserved ===

impl Reserved<'_> {
    /// Adds `bytes`.
    ///
    /// # Errors
    ///
    /// [`Full`] if they are more than is left; nothing is added then.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        // Relaxed: the count is all there is, and guards no other memory.
        let reserved = &self.budget.reserved;
        let grown = reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
            let sum = reserved.checked_add(bytes)?;
            (sum <= self.budget.limit).then_some(sum)
        });
        match grown {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Full),
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let reserved = &self.budget.reserved;
            reserved.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_reserved_never_exceeds_the_limit_and_all_of_it_comes_back(
            steps in proptest::collection::vec((0_usize..4, 0_usize..8, any::<bool>()), 0..64),
            limit in 0_usize..24,
        ) {
            let budget = ByteBudget::new(limit);
            let mut holders: Vec<Reserved<'_>> = (0..4).map(|_| budget.reserve()).collect();
            let mut model = [0; 4];
            for (who, bytes, is_drop) in steps {
                if is_drop {
                    holders[who] = budget.reserve();
                    model[who] = 0;
                } else {
                    let fits = model.iter().sum::<usize>() + bytes <= limit;
                    prop_assert_eq!(holders[who].grow(bytes).is_ok(), fits);
                    model[who] += if fits { bytes } else { 0 };
                }
                let reserved = budget.reserved.load(Ordering::Relaxed);
                prop_assert_eq!(reserved, model.iter().sum::<usize>());
            }
            drop(holders);
            prop_assert_eq!(budget.reserved.load(Ordering::Relaxed), 0);
        }
    }
}
