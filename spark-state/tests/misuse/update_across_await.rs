use spark_state::SharedState;

async fn later() {}

fn main() {
    let state = SharedState::new();
    let _ = state.update("hits", |hits: &mut i64| {
        later().await;
        *hits += 1;
    });
}
