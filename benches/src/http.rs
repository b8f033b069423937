//! What a request costs on its way through an HTTP server: Spark's ingress with a module behind
//! it, next to the same work as a closure mounted in axum, and next to `manager_handlers`.
//!
//! Each [contender] is a process of its own with one worker thread, on one core; the [`load`] is
//! this process, on another core where there is one, with one thread that never sleeps. All get the
//! same request, answer with the same JSON, and take turns in rounds ([`measure`]). Every figure is
//! also a ratio to axum's in the same round, beside what is asked of it ([`row`]). A turn in which
//! another program had one of the two cores is taken again.
//!
//! * requests per second: a fixed number of connections, each of which sends its next request when
//!   it has the answer;
//! * median and 99th percentile at half load: requests are due at fixed times, half as many per
//!   second as the slowest of Spark and axum answers at most, and a request's time counts from when
//!   it was due ([`schedule`]);
//! * memory: resident bytes per idle connection, and how many 10 000 requests for names that do not
//!   exist leave behind.

pub mod client;
pub mod contender;
pub mod cores;
pub mod load;
pub mod measure;
pub mod options;
pub mod process;
pub mod report;
pub mod row;
pub mod schedule;
pub mod target;

mod answer;
mod disturbance;
