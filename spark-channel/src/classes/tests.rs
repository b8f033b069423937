//! The queue against a plain model, and wakes, polled by hand.

mod model;
mod wakes;
