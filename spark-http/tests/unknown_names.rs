//! Names that nobody registered leave nothing behind. In a process of its own, whose memory is nobody
//! else's.
#![cfg(target_os = "linux")]

use spark_http::{ApiKeys, Ingress, Route, Seeing};

use crate::call::{call, post};

#[path = "support/call.rs"]
mod call;

/// What is resident, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.expect("a line").trim().trim_end_matches(" kB");
    kib.parse().expect("a number")
}

#[tokio::test]
async fn ten_thousand_unknown_names_leave_memory_flat() {
    let look = || Route::handler_fn(|_, _| async { "" }).concurrency(1);
    let keys = ApiKeys::new([("ci", "key")]).expect("valid");
    let ingress = Ingress::builder()
        .seeing(&Seeing::new())
        .api_keys(keys)
        .route("known", look())
        .path("known/{id}", look())
        .build()
        .expect("valid");
    let ask = async |number: u32, key: &str| {
        let mut request = post(&format!("/{number}-{}", "x".repeat(4096)), "");
        let key = key.parse().expect("a value");
        request.headers_mut().insert("x-api-key", key);
        let reply = call(&ingress, request).await;
        assert!(reply.message().len() < 300);
        reply.status
    };
    // What is allocated once is.
    for number in 0..500 {
        assert_eq!(ask(number, "key").await, 404);
        assert_eq!(ask(number, &format!("wrong-{number}")).await, 401);
    }
    let before = resident();
    for number in 500..10_500 {
        assert_eq!(ask(number, "key").await, 404);
        assert_eq!(ask(number, &format!("wrong-{number}")).await, 401);
    }
    // Kept, the names would be 40 MiB.
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}
