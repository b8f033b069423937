//! Measurements that compare Spark with its peers. Not published.
//!
//! Each measurement is a module here and a program of the same name in `src/bin`:
//!
//! * [`actors`]: what one module costs (ask, tell, start, memory) next to a hand-written tokio
//!   loop and next to other actor crates. `cargo run --release -p benches --bin actors`
//! * [`http`]: what a route to a module costs next to the same closure in axum, and next to
//!   `manager_handlers`. `cargo run --release -p benches --bin http`
//! * [`state`]: what reading and writing shared state costs next to a raw `DashMap`,
//!   `RwLock<HashMap>`, moka and scc. `cargo run --release -p benches --bin state`
//! * [`instructions`]: what one operation costs in instructions and allocations, counted exactly.
//!   `scripts/count-instructions`

pub mod actors;
pub mod http;
pub mod instructions;
pub mod state;
pub mod statistics;

mod flags;
mod order;
mod table;

pub use flags::UsageError;
