//! A contender on a piece of work, with its type erased.

use std::fmt::{self, Display};

use super::{
    case::{self, Slice, Timed},
    contender::{Threads, Variant, spark::Spark},
};

mod inside;
mod request_all;

/// Something that can be run for a slice.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    contender: &'static str,
    work: Work,
    time: fn(Threads, u32) -> Slice,
}

/// What a contender does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Case(Timed),
    /// `request_all` of [`request_all::BATCH`] messages, again and again, from one caller. An
    /// operation is one answered message.
    RequestAll,
    /// Requests that a handler makes to another module, one after the other, while it handles a
    /// request itself. An operation is one of these.
    Inside,
}

// === impl Run ===

impl Run {
    /// With that many callers.
    pub const fn ask<V: Variant, const CALLERS: u32>() -> Self {
        Self {
            contender: V::NAME,
            work: Work::Case(Timed::Ask { callers: CALLERS }),
            time: |threads, operations| {
                case::time_ask(V::contender(), CALLERS, threads, operations)
            },
        }
    }

    /// With that many producers.
    pub const fn tell<V: Variant, const PRODUCERS: u32>() -> Self {
        Self {
            contender: V::NAME,
            work: Work::Case(Timed::Tell {
                producers: PRODUCERS,
            }),
            time: |threads, operations| {
                case::time_tell(V::contender(), PRODUCERS, threads, operations)
            },
        }
    }

    /// Modules, started and stopped.
    pub const fn spawn<V: Variant>() -> Self {
        Self {
            contender: V::NAME,
            work: Work::Case(Timed::Spawn),
            time: |threads, operations| case::time_spawn(V::contender(), threads, operations),
        }
    }

    /// One caller that sends requests ahead of their answers, in batches.
    pub const fn request_all<V: Variant<Contender = Spark>>() -> Self {
        Self {
            contender: V::NAME,
            work: Work::RequestAll,
            time: |threads, operations| request_all::time(V::contender(), threads, operations),
        }
    }

    /// Requests made inside of a handler. Both modules are set up alike.
    pub const fn inside<V: Variant<Contender = Spark>>() -> Self {
        Self {
            contender: V::NAME,
            work: Work::Inside,
            time: |threads, operations| inside::time(V::contender(), threads, operations),
        }
    }

    /// Runs a slice of about `operations` operations on a fresh runtime and fresh modules, after an
    /// untimed tenth of it to warm up.
    ///
    /// # Panics
    ///
    /// Panics if the work has not all been done.
    pub fn time(&self, threads: Threads, operations: u32) -> Slice {
        (self.time)(threads, operations)
    }
}

/// The contender and the case, as in `spark/ask1`.
impl Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.contender)?;
        match self.work {
            Work::Case(case) => case.fmt(f),
            Work::RequestAll => write!(f, "request-all{}", request_all::BATCH),
            Work::Inside => f.write_str("inside"),
        }
    }
}
