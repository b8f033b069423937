//! Classes of messages: which are taken first, how many may wait, and what happens
//! to one too many.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::OnceLock,
};

/// What happens to a message that finds its class full.
///
/// A message dropped by one of these policies was accepted first: it is counted as
/// [`dropped`](crate::Stats::dropped), and if it was a request, its caller gets
/// [`Overflowed`](crate::SparkChannelError::Overflowed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// Its sender waits for room, in the order of asking; with a `try_` method it is
    /// refused as [`Full`](crate::SparkChannelError::Full).
    #[default]
    Wait,
    /// It is refused as [`Full`](crate::SparkChannelError::Full), whatever the method.
    Reject,
    /// It is dropped: what is queued is older and stays.
    DropNewest,
    /// The oldest queued message of its class is dropped to make room for it.
    DropOldest,
}

/// Which messages are taken before others.
///
/// Between messages of one priority the order is that of acceptance. While more
/// than one priority has messages, sixteen of the higher ones are taken for each of
/// a lower one, so none starves; only [`Control`](Self::Control) goes before
/// everything, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before every other message. For the few that steer the module: as many of
    /// them as come keep all others waiting.
    Control,
    /// Before [`Normal`](Self::Normal) ones.
    High,
    /// That of messages without a class.
    #[default]
    Normal,
    /// After all others.
    Low,
}

/// A class of messages, with a bounded queue of its own inside of the mailbox.
///
/// Made once, as a constant, and chosen for each message by the function given to
/// [`ModuleBuilder::classify`](crate::ModuleBuilder::classify). A class is known by
/// its name: the module keeps one queue for each name it has seen, with the
/// settings it had when it was first seen.
///
/// # Examples
///
/// ```
/// use spark_channel::{Class, Overflow, Priority};
///
/// enum Message { Halt, Quote { symbol: String, cents: u64 }, Order(u64) }
///
/// const HALT: Class = Class::new("halt").priority(Priority::Control).capacity(4);
/// const QUOTES: Class = Class::new("quotes").capacity(100).overflow(Overflow::DropOldest);
///
/// fn classify(message: &Message) -> Class {
///     match message {
///         Message::Halt => HALT,
///         // Of each symbol only the latest quote waits.
///         Message::Quote { symbol, .. } => QUOTES.conflate(symbol),
///         Message::Order(_) => Class::DEFAULT,
///     }
/// }
/// # let quote = Message::Quote { symbol: "SPRK".into(), cents: 1 };
/// # assert_eq!(classify(&quote).name(), "quotes");
/// # assert_eq!(classify(&Message::Halt).name(), "halt");
/// # assert_eq!(classify(&Message::Order(1)).name(), "default");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    name: &'static str,
    pub(crate) priority: Priority,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) key: Option<u64>,
}

/// What a module has counted of one class of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// The class's name.
    pub name: &'static str,
    /// Its priority.
    pub priority: Priority,
    /// Its bound, in messages.
    pub capacity: usize,
    /// Its messages in the mailbox now.
    pub depth: usize,
    /// The most of its messages that ever waited in the mailbox at once.
    pub high_water: usize,
    /// Senders that wait for room now.
    pub waiting: usize,
    /// Messages dropped because the class was full.
    pub dropped: u64,
    /// Commands replaced by a newer one with the same key.
    pub conflated: u64,
}

// === impl Class ===

impl Class {
    /// The class of messages that have no other: its bound is the module's
    /// [`capacity`](crate::ModuleBuilder::capacity), its policy the module's
    /// [`overflow`](crate::ModuleBuilder::overflow), its priority
    /// [`Normal`](Priority::Normal). Every class of the name `default` is this one.
    pub const DEFAULT: Self = Self::new("default");

    /// A class of 64 messages of [`Normal`](Priority::Normal) priority, whose
    /// senders [wait](Overflow::Wait) while it is full.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            priority: Priority::Normal,
            capacity: 64,
            overflow: Overflow::Wait,
            key: None,
        }
    }

    /// Which messages its messages are taken before. Default: [`Normal`](Priority::Normal).
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Bounds the class, in messages, whatever other classes hold. Default: 64.
    ///
    /// # Panics
    ///
    /// Panics, in a constant when it is compiled, if it is zero.
    #[must_use]
    pub const fn capacity(mut self, messages: usize) -> Self {
        assert!(messages > 0, "a class holds at least one message");
        self.capacity = messages;
        self
    }

    /// What happens to a message too many. Default: [`Wait`](Overflow::Wait).
    #[must_use]
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// This class for a command that makes an older one with the same key obsolete.
    ///
    /// If a command of this class and key is queued, the new one takes its place and
    /// the old one is dropped, counted as [`conflated`](crate::Stats::conflated);
    /// the class being full does not matter then. Otherwise the command is queued
    /// like any other. Requests are never conflated, since somebody waits for each.
    ///
    /// Keys are compared by a 64-bit hash, seeded anew in each process: two
    /// different keys are taken for the same with odds of one in 2⁶⁴.
    #[must_use]
    pub fn conflate<K: Hash + ?Sized>(mut self, key: &K) -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        self.key = Some(SEED.get_or_init(RandomState::new).hash_one(key));
        self
    }

    /// The class's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        // Most often it is the same constant.
        std::ptr::eq(self.name, other.name) || self.name == other.name
    }
}
