//! What a store has counted.

/// What a store holds, and what it has lost and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries held now, expired ones that were not swept yet included.
    pub entries: usize,
    /// What they take, in bytes; of a store with a bound on bytes.
    pub bytes: Option<usize>,
    /// Values evicted to make room.
    pub evicted: u64,
    /// Values expired.
    pub expired: u64,
    /// Writes refused because there was no room.
    pub rejected: u64,
    /// Watches and subscriptions now.
    pub listeners: usize,
}
