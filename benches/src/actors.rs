//! What one module costs, next to a hand-written tokio loop and next to other actor crates.
//!
//! All contenders run in one program, in turns: a *round* gives every contender one short slice of
//! a case, in shuffled order, and the ratio to the baseline is taken within the round. What the
//! machine does meanwhile (another build, a lower clock) then hits both sides of a ratio alike. The
//! table shows the median of those ratios.
//!
//! * [`contender`] is what a framework must be able to do, one file per framework. Read these to
//!   judge whether the comparison is fair: each says how its framework is configured and why.
//! * [`workload`] is what every module does, [`case`] how each case drives it.
//! * [`comparison`] is what Spark promises of itself: one [`run`](run::Run) against another, such as
//!   many requests at once against single ones, each with a limit.
//! * [`rounds`] takes turns; [`statistics`](crate::statistics) turns rounds into medians; [`report`] prints them.

pub mod case;
pub mod comparison;
pub mod contender;
pub mod counting_allocator;
pub mod entrant;
pub mod options;
pub mod report;
pub mod rounds;
pub mod run;
pub mod workload;
