//! What reading and writing shared state costs: spark-state next to a raw `DashMap`,
//! `RwLock<HashMap>`, moka and scc.
//!
//! Every [contender] holds the same keys, as text, and an `i64` under each. A slice is a
//! number of operations on each of some threads, over all keys in an order of its own; a given
//! share of them writes. All run in one program, in turns: a *round* gives every contender one
//! slice of a [case](measure::Case), in shuffled order, and the ratio to `DashMap` is taken within
//! the round. The table shows the median of those ratios.

pub mod contender;
pub mod measure;
pub mod operation;
pub mod options;
pub mod report;
