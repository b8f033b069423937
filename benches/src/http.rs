//! What a request costs on its way through an HTTP server: Spark's ingress with a module behind
//! it, next to the same work as a closure mounted in axum, and next to `manager_handlers`.
//!
//! Each [contender] is a process of its own, with one worker thread where it can be
//! told so; the load comes from this process, on one thread as well. Every answer is the same
//! JSON. Contenders take turns in rounds ([`measure`]), and every figure is a ratio to axum's in the
//! same round.
//!
//! * requests per second: a fixed number of connections, each of which sends its next request when
//!   it has the answer;
//! * 99th percentile at half load: requests are due at fixed times, half as many per second as axum
//!   answered at most; who is late is charged from when the request was due;
//! * memory: resident bytes per idle connection, and how much 10 000 requests for names that do not
//!   exist leave behind.

pub mod contender;
pub mod load;
pub mod measure;
pub mod options;
pub mod process;
pub mod report;
