//! Supervision: modules that are kept alive.
//!
//! [`Decision`](decision::Decision) decides, without tasks or clocks;
//! [`Driver`](driver::Driver) is the task that asks it. A supervised module is an
//! ordinary one whose run loop hands its handler over and waits when it fails; the
//! two talk through an [`Oversight`](crate::oversight::Oversight). A nested
//! supervisor talks to its parent in the same way.

mod branch;
mod charges;
mod child;
mod decision;
mod driver;
mod leave;
mod policy;
mod renewed;
mod report;
mod streak;
mod supervisor;

pub(crate) use self::report::modules_of;
pub use self::{
    child::Child,
    policy::{Backoff, Strategy},
    report::{ChildFailure, ChildReport, ChildStatus, SupervisorEnd, SupervisorReport},
    supervisor::{Supervisor, SupervisorHandle},
};
