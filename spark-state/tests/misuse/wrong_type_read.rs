use spark_state::{Key, SharedState};

const HITS: Key<i64> = Key::new("hits");

fn main() {
    let _: Result<String, _> = SharedState::new().get(HITS);
}
