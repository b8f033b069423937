use spark_state::{Key, SharedState};

const NAME: Key<String> = Key::new("name");

fn main() {
    let _ = SharedState::new().increment(NAME, 1);
}
