use std::rc::Rc;

use spark_state::{SharedState, StateValue};

fn main() {
    let shared = Rc::new(1_i64);
    let function = StateValue::function(move |_| StateValue::from(*shared));
    let _ = SharedState::new().insert("function", function);
}
