use spark_state::Key;

struct Config;

const CONFIG: Key<Config> = Key::new("config");

fn main() {
    let _ = CONFIG;
}
