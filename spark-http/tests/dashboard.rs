//! The live page's files and its stream; how it looks and works is in `dashboard_browser.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use spark_channel::{Child, NativeHandler, Stop, Strategy, Supervisor, System, module};
use spark_http::{Answer, Body, Seeing};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

const SECOND: Duration = Duration::from_secs(1);

const FILES: [(&str, &str); 4] = [
    ("/_spark", "text/html; charset=utf-8"),
    ("/_spark/style.css", "text/css; charset=utf-8"),
    ("/_spark/page.js", "text/javascript; charset=utf-8"),
    ("/_spark/icon.svg", "image/svg+xml"),
];

struct Echo;

impl NativeHandler for Echo {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, number: u64) -> eyre::Result<u64> {
        sleep(Duration::from_millis(number)).await;
        Ok(number)
    }

    async fn handle_command(&mut self, _: u64) -> eyre::Result<()> {
        Ok(())
    }
}

async fn get(seeing: &Seeing, path: &str) -> Answer {
    let request = Request::get(path).body(Body::empty()).expect("valid");
    seeing.clone().oneshot(request).await.expect("infallible")
}

async fn file(seeing: &Seeing, path: &str) -> (HeaderMap, String) {
    let (parts, body) = get(seeing, path).await.into_parts();
    assert_eq!(parts.status, 200, "{path}");
    let body = body.collect().await.expect("in memory").to_bytes();
    let text = String::from_utf8(body.into()).expect("UTF-8");
    (parts.headers, text)
}

/// The next picture of a viewer's stream.
async fn picture(body: &mut Body) -> Value {
    let frame = timeout(10 * SECOND, body.frame()).await.expect("in time");
    let frame = frame.expect("endless").expect("whole");
    let data = frame.into_data().expect("no trailers");
    let json = data.strip_prefix(b"data: ").expect("an event");
    let json = json.strip_suffix(b"\n\n").expect("a whole event");
    serde_json::from_slice(json).expect("JSON")
}

#[tokio::test]
async fn the_page_runs_nothing_and_loads_nothing_but_its_own_files() {
    let seeing = Seeing::new();
    for (path, kind) in FILES {
        let (headers, text) = file(&seeing, path).await;
        assert_eq!(headers["content-type"], kind);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{policy}"
        );
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );

        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        for address in ["http:", "https:", "//", "@import"] {
            // Comments of a script are no addresses.
            let mut lines = elsewhere
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let found = lines.find(|line| {
                line.split(" // ")
                    .next()
                    .is_some_and(|line| line.contains(address))
            });
            assert_eq!(found, None, "{path}");
        }
    }
    let (_, page) = file(&seeing, "/_spark").await;
    for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    let (_, script) = file(&seeing, "/_spark/page.js").await;
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
    ] {
        assert!(!script.contains(way), "{way}");
    }
}

#[tokio::test]
async fn only_the_pages_own_addresses_are_its() {
    let seeing = Seeing::new();
    for path in [
        "/_spark/",
        "/_spark/x",
        "/_sparks",
        "/_spark/../page.js",
        "/x/_spark",
    ] {
        assert_eq!(get(&seeing, path).await.status(), 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_viewer_gets_a_picture_at_once_and_then_one_each_second_with_rates_and_latencies() {
    let seeing = Seeing::named("shop", "1.0");
    let echo = module(Echo)
        .name("echo")
        .capacity(8)
        .message_names(|_| "ask")
        .spawn();
    seeing.watch(&echo);
    let mut body = get(&seeing, "/_spark/events").await.into_body();
    let begun = Instant::now();
    let first = picture(&mut body).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(first["service"], "shop");
    assert_eq!(first["modules"][0]["name"], "echo");
    assert_eq!(first["modules"][0]["rate"], Value::Null);
    assert_eq!(first["modules"][0]["capacity"], 8);

    let dispatcher = echo.dispatcher();
    for _ in 0..10 {
        dispatcher.request(20_u64).await.expect("handled");
    }
    let running = tokio::spawn(async move { dispatcher.request(60_000_u64).await });
    let second = picture(&mut body).await;
    assert_eq!(begun.elapsed(), SECOND);
    let line = &second["modules"][0];
    assert_eq!(line["rate"], 10.0);
    assert_eq!(line["handled"], 10);
    assert_eq!(line["latency_of"], "messages");
    let p99 = line["latency"]["p99"].as_u64().expect("handled some");
    assert!((16_384..=20_000).contains(&p99), "{p99}");
    assert_eq!(line["current"]["name"], "ask");
    assert_eq!(line["current"]["age_micros"], 800_000);

    // What was handled more than ten seconds ago is no longer told of.
    for _ in 0..12 {
        let _ = picture(&mut body).await;
    }
    let later = picture(&mut body).await;
    assert_eq!(later["modules"][0]["latency"], Value::Null);
    running.abort();
    echo.shutdown(Stop::Now).await;
}

#[tokio::test(start_paused = true)]
async fn children_of_one_name_have_rates_of_their_own() {
    let system = System::new("system");
    let [busy, calm] = ["first", "second"].map(|name| {
        let mut tree = Supervisor::new(name, Strategy::OneForOne);
        let child = tree.child(Child::new(|| Echo).name("worker"));
        system.supervise(tree).expect("open");
        child
    });
    let seeing = Seeing::new();
    seeing.watch_system(&system);
    let mut body = get(&seeing, "/_spark/events").await.into_body();
    let _ = picture(&mut body).await;
    for (child, requests) in [(busy, 10), (calm, 3)] {
        for _ in 0..requests {
            child.request(0_u64).await.expect("handled");
        }
    }
    let second = picture(&mut body).await;
    let lines = second["modules"].as_array().expect("lines");
    let figures = |name: &str| -> Vec<f64> {
        let figures = lines.iter().map(|line| line[name].as_f64());
        figures.map(|figure| figure.expect("a number")).collect()
    };
    assert_eq!(figures("handled").len(), 2);
    assert_eq!(figures("rate"), figures("handled"));
    system.shutdown(Stop::Now, SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn one_picture_is_taken_for_all_viewers_and_none_while_nobody_looks() {
    let seeing = Seeing::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    seeing.check("counts", move || {
        counted.fetch_add(1, Ordering::SeqCst) < usize::MAX
    });
    sleep(60 * SECOND).await;
    assert_eq!(taken.load(Ordering::SeqCst), 0);

    let mut viewers = Vec::new();
    for _ in 0..10 {
        viewers.push(get(&seeing, "/_spark/events").await.into_body());
    }
    for _ in 0..5 {
        for viewer in &mut viewers {
            assert_eq!(picture(viewer).await["ready"], true);
        }
    }
    assert_eq!(taken.load(Ordering::SeqCst), 5);

    drop(viewers);
    sleep(60 * SECOND).await;
    assert_eq!(taken.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn viewers_are_bounded_and_make_room_when_they_leave() {
    let seeing = Seeing::new();
    let mut viewers = Vec::new();
    for _ in 0..16 {
        let answer = get(&seeing, "/_spark/events").await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        viewers.push(answer);
    }
    let refused = get(&seeing, "/_spark/events").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));

    viewers.pop();
    assert_eq!(get(&seeing, "/_spark/events").await.status(), 200);
}
