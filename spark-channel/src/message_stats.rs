//! What a module tells of its messages by name, if it was built to.

use std::time::Duration;

/// How long messages of each name waited and were handled, and which are handled now.
///
/// Told by modules that were built with
/// [`message_names`](crate::ModuleBuilder::message_names), as one picture of the moment it
/// is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageStats {
    /// One for each name that a handler was started for, in the order of the names.
    ///
    /// There are at most 256; messages of further names are all told as `(other)`.
    pub by_name: Vec<NamedStats>,
    /// The messages whose handlers run, the one that has run for the longest first: of a
    /// single module at most one.
    pub current: Vec<CurrentMessage>,
}

/// The times of messages of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedStats {
    /// The name.
    pub name: &'static str,
    /// From being accepted to the start of the handler, of those that were started. Zero
    /// for a request answered on its caller's task.
    ///
    /// A message that was put into the public `sender` of a dispatcher by hand is not
    /// timed, and while it is queued may lend those behind it a time that is too short.
    pub waiting: Durations,
    /// From the start of the handler to its end, whatever end that was: a result, an
    /// error, a panic, or being dropped.
    pub handling: Durations,
}

/// A message whose handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentMessage {
    /// Its name.
    pub name: &'static str,
    /// How long the handler has been running, waiting for others included.
    pub age: Duration,
}

/// Some lengths of time, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All together.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    /// How many were up to 1 µs, 2 µs, 4 µs and so on to 2^24 µs (16.8 s), each counted once;
    /// the last one counts those that were longer.
    pub buckets: [u64; 26],
}

// === impl MessageStats ===

impl MessageStats {
    /// What is known of messages with this name, if a handler was started for any.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&NamedStats> {
        let index = self.by_name.binary_search_by(|one| one.name.cmp(name));
        index.ok().map(|index| &self.by_name[index])
    }
}

// === impl NamedStats ===

impl NamedStats {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            waiting: Durations::default(),
            handling: Durations::default(),
        }
    }
}

// === impl Durations ===

impl Durations {
    /// The mean; zero of none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        self.total.div_f64(self.count as f64)
    }

    /// The longest length that [`buckets`](Self::buckets)`[index]` counts; `None` for the last
    /// bucket and beyond.
    #[must_use]
    pub fn bucket_bound(index: usize) -> Option<Duration> {
        (index < LAST_BUCKET).then(|| Duration::from_micros(1 << index))
    }

    /// About the length that the share `quantile` of them, from 0 to 1, does not exceed; zero of
    /// none.
    ///
    /// Estimated as if lengths were spread evenly within a bucket: between half and twice of what
    /// it is, and never above the longest.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = quantile.clamp(0.0, 1.0) * self.count as f64;
        let (mut below, mut counted) = (Duration::ZERO, 0.0);
        for (index, count) in self.buckets.iter().enumerate() {
            let bound = Self::bucket_bound(index).unwrap_or(self.max);
            let bound = bound.clamp(below, self.max.max(below));
            let count = *count as f64;
            if count > 0.0 && counted + count >= wanted {
                let share = (wanted - counted) / count;
                return below + bound.saturating_sub(below).mul_f64(share);
            }
            counted += count;
            below = bound;
        }
        self.max
    }

    /// Those that came after `earlier`, which is what was known of the same ones before. Their
    /// longest is not known: it stays the longest of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (bucket, before) in buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        Self {
            count: self.count.saturating_sub(earlier.count),
            total: self.total.saturating_sub(earlier.total),
            max: self.max,
            buckets,
        }
    }

    pub(crate) fn add(&mut self, length: Duration) {
        self.buckets[bucket_of(length)] += 1;
        self.count += 1;
        self.total = self.total.saturating_add(length);
        self.max = self.max.max(length);
    }
}

/// The first bucket whose bound is not below `length`.
fn bucket_of(length: Duration) -> usize {
    let begun = u128::from(!length.subsec_nanos().is_multiple_of(1_000));
    let micros = u64::try_from(length.as_micros() + begun).unwrap_or(u64::MAX);
    let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (bits as usize).min(LAST_BUCKET)
}

const LAST_BUCKET: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lengths: &[Duration]) -> Durations {
        let mut durations = Durations::default();
        for length in lengths {
            durations.add(*length);
        }
        durations
    }

    #[test]
    fn a_length_is_counted_in_the_first_bucket_whose_bound_holds_it() {
        for index in 0..LAST_BUCKET {
            let bound = Durations::bucket_bound(index).expect("not the last");
            assert_eq!(bucket_of(bound), index);
            assert_eq!(bucket_of(bound + Duration::from_nanos(1)), index + 1);
        }
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), LAST_BUCKET);
        assert_eq!(Durations::bucket_bound(LAST_BUCKET), None);
    }

    #[test]
    fn a_quantile_is_between_half_and_twice_of_what_it_is_and_not_above_the_longest() {
        let lengths: Vec<_> = (1..=1_000).map(Duration::from_micros).collect();
        let durations = of(&lengths);
        for (quantile, exact) in [(0.01, 10), (0.5, 500), (0.9, 900), (0.99, 990)] {
            let exact = Duration::from_micros(exact);
            let read = durations.quantile(quantile);
            assert!(
                (exact / 2..=exact * 2).contains(&read),
                "{quantile}: {read:?}"
            );
        }
        assert_eq!(durations.quantile(1.0), Duration::from_millis(1));
        assert_eq!(of(&[]).quantile(0.5), Duration::ZERO);
        let same = of(&[Duration::from_millis(40); 9]);
        assert_eq!(same.quantile(1.0), Duration::from_millis(40));
        let hour = Duration::from_secs(3_600);
        assert_eq!(of(&[hour]).quantile(1.0), hour);
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let first = Duration::from_micros(3);
        let later = [Duration::from_millis(5), Duration::from_secs(40)];
        let all = of(&[first, later[0], later[1]]);
        assert_eq!(all.since(&of(&[first])), of(&later));
    }
}
