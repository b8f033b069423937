use std::{cell::Cell, sync::Arc};

use spark_state::SharedState;

fn main() {
    let _ = SharedState::new().insert("cell", Arc::new(Cell::new(1)));
}
