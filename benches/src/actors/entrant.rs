//! The contenders that have a row in the tables.

use super::{
    case::{self, Counted, Slice, Timed},
    contender::{
        Threads, Variant,
        actix::Actix,
        baseline::Baseline,
        kameo::Kameo,
        ractor::Ractor,
        spark::{Spark, SparkQueued},
        spark_async_trait::SparkAsyncTrait,
        spark_channel_003::SparkChannel003,
        xtra::Xtra,
    },
};

/// A contender, with its type erased.
#[derive(Debug, Clone, Copy)]
pub struct Entrant {
    /// [`Variant::NAME`].
    pub name: &'static str,
    /// [`Variant::ABOUT`].
    pub about: &'static str,
    /// [`case::time`].
    pub(super) time: fn(Timed, Threads, u32) -> Slice,
    /// [`case::count`].
    pub(super) count: fn(Counted, Threads, u32) -> f64,
}

/// All contenders, in the order of the rows. The baseline is the first.
///
/// A static, as a constant would be compiled, with all it runs, into every crate that names it.
pub static ALL: [Entrant; 9] = [
    Entrant::of::<Baseline>(),
    Entrant::of::<Spark>(),
    Entrant::of::<SparkQueued>(),
    Entrant::of::<SparkAsyncTrait>(),
    Entrant::of::<SparkChannel003>(),
    Entrant::of::<Ractor>(),
    Entrant::of::<Kameo>(),
    Entrant::of::<Actix>(),
    Entrant::of::<Xtra>(),
];

// === impl Entrant ===

impl Entrant {
    const fn of<V: Variant>() -> Self {
        Self {
            name: V::NAME,
            about: V::ABOUT,
            time: |case, threads, operations| case::time(V::contender(), case, threads, operations),
            count: |case, threads, operations| {
                case::count(V::contender(), case, threads, operations)
            },
        }
    }
}
