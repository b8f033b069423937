//! What tests of modules need: a driver that handles one message per step without a
//! runtime, a clock that is moved by hand, doubles of modules, and an audit that fails a
//! test which loses messages.
//!
//! With the feature `test-util`, which belongs into `[dev-dependencies]`:
//!
//! ```toml
//! [dev-dependencies]
//! spark-channel = { version = "0.1", features = ["test-util"] }
//! ```
//!
//! | to test | use |
//! |---|---|
//! | what a handler answers, and what it leaves behind | [`Driver`] |
//! | what happens in time: timers, deadlines, intervals | [`VirtualClock`] |
//! | what a module sends to others | [`Probe`] |
//! | that nothing panicked and nothing was lost | [`test`](macro@test), or [`Audit`] and [`audited`] |
//!
//! Everything here panics where it is misused or what it expects does not come, with
//! the caller's line: that is how a test fails. No wait is without a bound.

mod audit;
mod driver;
mod probe;
mod trial;
mod virtual_clock;

#[doc(hidden)]
pub use self::trial::Trial;
pub(crate) use self::trial::{panicked, seen, unanswered};
pub use self::{
    audit::{Audit, Expected, audited},
    driver::{Asked, Driver, Step, Waiting},
    probe::{Probe, ProbeReply},
    virtual_clock::VirtualClock,
};
#[doc = include_str!("testing/attribute.md")]
pub use spark_channel_macros::test;
