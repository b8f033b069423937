//! Health, readiness and metrics.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use http_body_util::BodyExt as _;
use spark_channel::{
    Backoff, Child, ModuleState, Stop, Strategy, Supervisor, System, module, spawn_module,
};
use spark_http::{
    Answer, Body, ConfigError, HttpServer, Ingress, Route, Seeing, ServerStats, TextCodec,
};
use tower::{Service, ServiceExt as _};

use crate::support::{
    call::{call, post},
    echo::Echo,
    exposition::Exposition,
    modules::{Broken, Gated},
    wire::{serve, within},
};

mod support {
    pub(crate) mod call;
    pub(crate) mod echo;
    pub(crate) mod exposition;
    pub(crate) mod modules;
    pub(crate) mod wire;
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

/// The answer's status, content type and text.
async fn text<S>(service: &S, path: &str) -> (u16, String, String)
where
    S: Service<Request<Body>, Response = Answer, Error = Infallible> + Clone,
{
    let answer = service.clone().oneshot(get(path)).await;
    let (parts, body) = answer.expect("infallible").into_parts();
    assert!(parts.headers.contains_key("x-request-id"));
    let body = body.collect().await.expect("in memory").to_bytes();
    let kind = parts.headers["content-type"].to_str().expect("text");
    let text = String::from_utf8(body.into()).expect("UTF-8");
    (parts.status.as_u16(), kind.to_owned(), text)
}

async fn metrics<S>(service: &S) -> Exposition
where
    S: Service<Request<Body>, Response = Answer, Error = Infallible> + Clone,
{
    let (status, kind, text) = text(service, "/metrics").await;
    assert_eq!(status, 200);
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    Exposition::parse(&text)
}

async fn ready(seeing: &Seeing) -> (u16, String) {
    let (status, _, text) = text(seeing, "/readyz").await;
    assert_eq!(status == 200, seeing.is_ready());
    (status, text)
}

fn gated_ingress(gated: &Gated, seeing: &Seeing) -> Ingress {
    let module = module(gated.clone())
        .name("gated")
        .message_names(|message: &String| match message.as_str() {
            "panic" => "panic",
            _ => "text",
        })
        .spawn();
    // The routes keep it alive.
    Ingress::builder()
        .module("gated", TextCodec, module.dispatcher())
        .handler_fn("teapot", |_, _| async {
            spark_http::ErrorAnswer::new(http::StatusCode::IM_A_TEAPOT, "short and stout")
        })
        .handler_fn("panics", |_, _| async { panics("secret") })
        .handler_fn("hints", |_, _| async {
            (http::StatusCode::EARLY_HINTS, "no answer")
        })
        .seeing(seeing)
        .build()
        .expect("valid")
}

fn panics(text: &str) -> &'static str {
    panic!("{text}")
}

// --- health

#[tokio::test]
async fn a_service_that_answers_is_live_and_ready_for_get_and_head_only() {
    let ingress = Ingress::builder().seeing(&Seeing::new()).build();
    let ingress = ingress.expect("valid");
    for path in ["/healthz", "/readyz"] {
        let reply = call(&ingress, get(path)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let refused = call(&ingress, post(path, "")).await;
        assert_eq!(refused.status, 405);
        assert_eq!(refused.headers["allow"], "GET, HEAD");
        assert_eq!(refused.message(), "method not allowed");
        let head = Request::builder().method(Method::HEAD).uri(path);
        let head = ingress
            .clone()
            .oneshot(head.body(Body::empty()).expect("valid"));
        assert_eq!(head.await.expect("infallible").status(), 200);
    }
}

#[tokio::test]
async fn a_service_is_not_ready_while_a_check_fails_and_tells_no_names() {
    let seeing = Seeing::new();
    let up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&up);
    seeing.check("secret-database", move || seen.load(Ordering::SeqCst));

    let (status, text) = ready(&seeing).await;
    assert_eq!(status, 503);
    assert!(text.contains("checks that fail: 1"), "{text}");
    assert!(!text.contains("secret"), "{text}");

    up.store(true, Ordering::SeqCst);
    assert_eq!(ready(&seeing).await.0, 200);

    seeing.check("panics", || panic!("secret"));
    let (status, text) = ready(&seeing).await;
    assert_eq!(status, 503);
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_service_is_not_ready_once_a_watched_server_drains() {
    let seeing = Seeing::new();
    let server = HttpServer::bind("127.0.0.1:0").await.expect("free");
    seeing.watch_server("public", &server.handle());
    assert_eq!(ready(&seeing).await.0, 200);
    let server_series = "spark_http_server_draining{server=\"public\"}";
    assert_eq!(metrics(&seeing).await.count(server_series), 0);

    server.handle().drain();

    let (status, text) = ready(&seeing).await;
    assert_eq!(status, 503);
    assert!(text.contains("shutting down"), "{text}");
    assert_eq!(metrics(&seeing).await.count(server_series), 1);
    assert_eq!(call_status(&seeing, "/healthz").await, 200);
}

#[tokio::test]
async fn connections_and_requests_of_a_server_are_counted_while_it_runs() {
    let seeing = Seeing::new();
    let gated = Gated::open();
    let ingress = gated_ingress(&gated, &Seeing::new());
    let serving = serve(HttpServer::builder(), ingress).await;
    let handle = serving.handle.clone();
    seeing.watch_server("public", &handle);
    assert_eq!(handle.stats(), ServerStats::default());

    let mut one = serving.connect().await;
    let mut other = serving.connect().await;
    one.post("gated", "a").await;
    assert_eq!(one.reply().await.status, 200);
    other.post("gated", "b").await;
    assert_eq!(other.reply().await.status, 200);
    drop(one);
    within(async {
        while handle.stats().open != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let page = metrics(&seeing).await;
    let count = |metric: &str| page.count(&format!("{metric}{{server=\"public\"}}"));
    assert_eq!(count("spark_http_server_connections_open"), 1);
    assert_eq!(count("spark_http_server_connections_total"), 2);
    assert_eq!(count("spark_http_server_requests_served_total"), 2);
    drop(other);
    let report = serving.drain().await;
    assert_eq!((report.connections, handle.stats().open), (2, 0));
}

async fn call_status(seeing: &Seeing, path: &str) -> u16 {
    text(seeing, path).await.0
}

#[tokio::test]
async fn a_service_is_not_ready_once_a_module_of_its_routes_has_ended_until_it_is_forgotten() {
    let seeing = Seeing::new();
    let echo = spawn_module(Echo);
    let dispatcher = echo.dispatcher();
    let name = dispatcher.name().expect("spawned").to_owned();
    let builder = Ingress::builder().module("echo", TextCodec, dispatcher);
    let _ingress = builder.seeing(&seeing).build().expect("valid");
    assert_eq!(ready(&seeing).await.0, 200);

    within(echo.shutdown(Stop::Drain)).await;
    let (status, text) = ready(&seeing).await;
    assert_eq!(status, 503);
    assert!(text.contains("modules that do not run: 1"), "{text}");

    seeing.forget(&name);
    assert_eq!(ready(&seeing).await.0, 200);
}

#[tokio::test]
async fn a_service_is_not_ready_while_a_module_of_a_system_restarts_or_its_tree_has_ended() {
    let system = System::new("shop");
    let seeing = Seeing::new();
    seeing.watch_system(&system);
    let hour = Duration::from_secs(3_600);
    let backoff = Backoff::exponential(hour, hour);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(backoff);
    let _child = tree.child(Child::new(|| Broken).name("broken"));
    system.supervise(tree).expect("open");
    let broken = || system.trees()[0].children[0].state;
    within(async {
        while broken() != ModuleState::Restarting {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ready(&seeing).await.0, 503);
    let page = metrics(&seeing).await;
    let restarting = "spark_module_state{module=\"broken\",state=\"restarting\"}";
    assert_eq!(page.count(restarting), 1);

    let healthy = System::new("healthy");
    let seeing = Seeing::new();
    seeing.watch_system(&healthy);
    let echo = module(Echo).name("echo").spawn();
    healthy.register(&echo).expect("free");
    assert_eq!(ready(&seeing).await.0, 200);
    within(system.shutdown(Stop::Now, Duration::ZERO)).await;
}

// --- metrics

#[tokio::test]
async fn requests_are_counted_by_route_and_class_of_status_and_while_they_are_in_flight() {
    let gated = Gated::closed();
    let seeing = Seeing::new();
    let ingress = gated_ingress(&gated, &seeing);

    let held = tokio::spawn({
        let ingress = ingress.clone();
        async move { call(&ingress, post("/gated", "held")).await.status }
    });
    within(gated.has_started()).await;
    let in_flight = "spark_http_requests_in_flight{route=\"gated\"}";
    assert_eq!(metrics(&ingress).await.count(in_flight), 1);

    gated.gate.add_permits(2);
    assert_eq!(within(held).await.expect("no panic"), 200);
    assert_eq!(call(&ingress, post("/gated", "panic")).await.status, 500);
    assert_eq!(call(&ingress, post("/teapot", "")).await.status, 418);
    assert_eq!(call(&ingress, post("/panics", "")).await.status, 500);
    assert_eq!(call(&ingress, post("/hints", "")).await.status, 500);

    assert_eq!(gated.runs(), 2);
    let page = metrics(&ingress).await;
    let count = |id: &str| page.count(id);
    assert_eq!(count(in_flight), 0);
    assert_eq!(
        count(r#"spark_http_requests_total{route="panics",status="5xx"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_requests_total{route="hints",status="5xx"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_requests_total{route="gated",status="2xx"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_requests_total{route="gated",status="5xx"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_requests_total{route="teapot",status="4xx"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_request_duration_seconds_count{route="gated"}"#),
        2
    );
    let all = r#"spark_http_request_duration_seconds_bucket{route="gated",le="+Inf"}"#;
    assert_eq!(count(all), 2);

    assert_eq!(
        count(r#"spark_module_messages_total{module="gated",outcome="handled"}"#),
        1
    );
    assert_eq!(count(r#"spark_module_panics_total{module="gated"}"#), 1);
    assert_eq!(
        count(r#"spark_module_state{module="gated",state="running"}"#),
        1
    );
    assert_eq!(
        count(r#"spark_http_route_info{route="gated",module="gated"}"#),
        1
    );
    let named = r#"spark_module_message_handling_seconds_count{module="gated",message="text"}"#;
    assert_eq!(count(named), 1);
}

#[tokio::test]
async fn a_request_whose_client_leaves_is_counted_as_abandoned_and_not_in_flight() {
    let gated = Gated::closed();
    let seeing = Seeing::new();
    let ingress = gated_ingress(&gated, &seeing);
    let held = tokio::spawn(ingress.clone().oneshot(post("/gated", "held")));
    within(gated.has_started()).await;
    held.abort();
    let _ = within(held).await;

    let page = metrics(&ingress).await;
    let count = |id: &str| page.count(id);
    assert_eq!(
        count("spark_http_requests_abandoned_total{route=\"gated\"}"),
        1
    );
    assert_eq!(count("spark_http_requests_in_flight{route=\"gated\"}"), 0);
    assert_eq!(
        count(r#"spark_http_request_duration_seconds_count{route="gated"}"#),
        0
    );
}

#[tokio::test]
async fn names_that_clients_make_up_never_make_a_series() {
    let seeing = Seeing::new();
    let ingress = gated_ingress(&Gated::open(), &seeing);
    let before = metrics(&ingress).await.len();
    for name in 0..500 {
        let reply = call(&ingress, post(&format!("/made-up-{name}"), "")).await;
        assert_eq!(reply.status, 404);
    }
    let page = metrics(&ingress).await;
    assert_eq!(page.len(), before);
    assert!(!page.ids().any(|id| id.contains("made-up")));
    let unrouted = page.count("spark_http_requests_unrouted_total{status=\"4xx\"}");
    assert_eq!(unrouted, 500);
}

#[tokio::test]
async fn labels_are_escaped_whatever_modules_and_routes_are_called() {
    let seeing = Seeing::new();
    let odd = "a \"quoted\" \\ name";
    let ingress = Ingress::builder()
        .handler_fn(odd, |_, _| async { "odd" })
        .seeing(&seeing)
        .build()
        .expect("valid");
    let echo = module(Echo).name("two\nlines } \" 1").spawn();
    seeing.watch(&echo);

    let page = metrics(&ingress).await;
    let route = r#"spark_http_requests_in_flight{route="a \"quoted\" \\ name"}"#;
    assert_eq!(page.count(route), 0);
    let module = r#"spark_module_mailbox_depth{module="two\nlines } \" 1"}"#;
    assert_eq!(page.count(module), 0);
}

#[tokio::test]
async fn a_module_is_counted_once_however_often_it_is_watched_and_those_of_one_name_add_up() {
    let system = System::new("shop");
    let seeing = Seeing::new();
    seeing.watch_system(&system);
    let echo = module(Echo).name("echo").capacity(8).spawn();
    system.register(&echo).expect("free");
    seeing.watch(&echo);
    seeing.watch(&echo.dispatcher());
    let capacity = "spark_module_mailbox_capacity{module=\"echo\"}";
    assert_eq!(metrics(&seeing).await.count(capacity), 8);

    let namesake = module(Echo).name("echo").capacity(16).spawn();
    seeing.watch(&namesake);
    assert_eq!(metrics(&seeing).await.count(capacity), 24);
}

#[tokio::test]
async fn mailboxes_without_a_bound_add_up_to_one_without() {
    let seeing = Seeing::new();
    for _ in 0..9 {
        let builder = module(Echo).name("wide");
        let wide = builder
            .capacity(tokio::sync::Semaphore::MAX_PERMITS)
            .spawn();
        seeing.watch(&wide.dispatcher());
    }
    let (status, _, page) = text(&seeing, "/metrics").await;
    assert_eq!(status, 200);
    let all = format!(
        "spark_module_mailbox_capacity{{module=\"wide\"}} {}\n",
        usize::MAX
    );
    assert!(page.contains(&all), "{page}");
}

#[tokio::test]
async fn a_flood_of_module_names_ends_in_one_series() {
    let seeing = Seeing::new();
    let handles: Vec<_> = (0..1_010)
        .map(|number| {
            module(Echo)
                .name(format!("m{number:04}"))
                .capacity(1)
                .spawn()
        })
        .collect();
    for handle in &handles {
        seeing.watch(handle);
    }
    let page = metrics(&seeing).await;
    let rest = page.count("spark_module_mailbox_capacity{module=\"(other)\"}");
    assert_eq!(rest, 10);
}

// --- where it is served

#[tokio::test]
async fn an_ingress_that_is_only_seen_serves_nothing_of_it_and_the_seeing_does() {
    let seeing = Seeing::new();
    let ingress = Ingress::builder()
        .handler_fn("metrics", |_, _| async { "mine" })
        .seen_by(&seeing)
        .build()
        .expect("its names are free");
    assert_eq!(call(&ingress, post("/metrics", "")).await.status, 200);
    assert_eq!(call(&ingress, get("/metrics")).await.status, 405);
    assert_eq!(call(&ingress, get("/healthz")).await.status, 404);

    let page = metrics(&seeing).await;
    let counted = page.count(r#"spark_http_requests_total{route="metrics",status="2xx"}"#);
    assert_eq!(counted, 1);
    assert_eq!(call_status(&seeing, "/healthz").await, 200);
    assert_eq!(call_status(&seeing, "/elsewhere").await, 404);
}

#[tokio::test]
async fn a_route_cannot_have_an_address_that_is_taken_for_seeing() {
    let mine = || Route::handler_fn(|_, _| async { "mine" });
    let by_name = |name: &'static str| (name, Ingress::builder().route(name, mine()));
    let by_path = ("/metrics", Ingress::builder().path("/metrics", mine()));
    for (name, builder) in ["healthz", "readyz", "metrics"]
        .map(by_name)
        .into_iter()
        .chain([by_path])
    {
        let built = builder.seeing(&Seeing::new()).build();
        let expected = ConfigError::DuplicateRoute { name: name.into() };
        assert_eq!(built.expect_err("taken"), expected);
    }
}
