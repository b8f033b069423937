use spark_state::SharedState;

struct Config;

fn main() {
    let _ = SharedState::new().get::<Config>("config");
}
