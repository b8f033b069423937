//! Who may send requests, and what those who may not learn.

use std::{io, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, request::Parts};
use spark_http::{
    ApiKeys, Authenticate, Body, ConfigError, Context, ErrorAnswer, HttpServer, Identity, Ingress,
    IngressBuilder, Route, Seeing, ShutdownCredential,
};
use tower::{ServiceExt as _, service_fn};

use crate::call::{Reply, call, post};

#[path = "support/call.rs"]
mod call;

fn who() -> Route {
    Route::handler_fn(|context: Context, _| async move {
        context
            .identity()
            .map_or("nobody".to_owned(), |identity| identity.name().to_owned())
    })
}

fn keys() -> ApiKeys {
    ApiKeys::new([("ci", "key-one"), ("ops", "key two"), ("ops", "schlüssel")]).expect("valid")
}

fn with_keys() -> IngressBuilder {
    Ingress::builder().api_keys(keys()).route("who", who())
}

fn request(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = post(path, "");
    *request.method_mut() = method;
    with_headers(request, headers)
}

fn with_headers(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for &(name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        request.headers_mut().append(name, value);
    }
    request
}

async fn ask(builder: IngressBuilder, headers: &[(&'static str, &str)]) -> Reply {
    let ingress = builder.build().expect("valid");
    call(&ingress, with_headers(post("/who", ""), headers)).await
}

async fn check(headers: &[(&'static str, &str)], status: u16, message: &str) {
    let reply = ask(with_keys(), headers).await;
    assert_eq!(
        (reply.status, reply.message()),
        (status, message),
        "{headers:?}"
    );
    if status == 401 {
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_key_is_read_from_any_of_three_headers() {
    for header in [
        ("authorization", "Bearer key-one"),
        ("authorization", "bEARER   key-one"),
        ("authorization", "key-one"),
        ("x-api-key", "key-one"),
    ] {
        check(&[header], 200, "ci").await;
    }
    check(&[("authorization", "key two")], 200, "ops").await;
    check(&[("authorization", "Bearer schlüssel")], 200, "ops").await;
}

#[tokio::test]
async fn any_other_key_is_a_401() {
    for key in [
        "",
        "key",
        "key-one ",
        "key-onE",
        "key-one,key-one",
        "Bearer",
        "Basic a2V5LW9uZTo=",
    ] {
        check(&[("authorization", key)], 401, "Invalid API Key").await;
        check(&[("x-api-key", key)], 401, "Invalid API Key").await;
    }
    check(&[], 401, "Missing API Key").await;
    check(&[("authentication", "key-one")], 401, "Missing API Key").await;
}

#[tokio::test]
async fn a_key_is_said_once_and_in_one_way() {
    let (one, other) = (("authorization", "key-one"), ("authorization", "wrong"));
    check(&[one, other], 401, "Invalid API Key").await;
    check(&[other, one], 401, "Invalid API Key").await;
    check(&[one, one], 401, "Invalid API Key").await;
    check(&[("x-api-key", "key-one"), other], 401, "Invalid API Key").await;
    check(&[("x-api-key", "wrong"), one], 200, "ci").await;
}

#[tokio::test]
async fn without_a_key_names_paths_and_methods_cannot_be_told_apart() {
    let ingress = with_keys()
        .path("orders/{id}", who().methods([Method::GET]))
        .mount(
            "below",
            Route::service(service_fn(|_: Request<Body>| async {
                Ok::<_, io::Error>(http::Response::new(Body::empty()))
            })),
        )
        .shutdown_route(
            HttpServer::bind("127.0.0.1:0")
                .await
                .expect("a port")
                .handle(),
            ShutdownCredential::new("stop").expect("valid"),
        )
        .build()
        .expect("valid");
    for headers in [&[][..], &[("authorization", "wrong")]] {
        let mut seen = Vec::new();
        for path in [
            "/who",
            "/nobody",
            "/orders/1",
            "/below/x",
            "/shutdown",
            "/%zz",
            "/a/b/c",
            "/",
        ] {
            for method in [Method::POST, Method::GET, Method::DELETE] {
                let mut reply = call(&ingress, request(method, path, headers)).await;
                reply.headers.remove("x-request-id");
                seen.push((reply.status, reply.headers, reply.json));
            }
        }
        seen.dedup();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].0, 401);
    }
}

#[tokio::test]
async fn the_body_of_an_unauthenticated_request_is_not_read() {
    struct Unread;
    impl http_body::Body for Unread {
        type Data = bytes::Bytes;
        type Error = io::Error;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<io::Result<http_body::Frame<bytes::Bytes>>>> {
            panic!("read")
        }
    }
    let ingress = with_keys().build().expect("valid");
    let request = Request::post("/who").body(Unread).expect("a request");
    assert_eq!(call(&ingress, request).await.status, 401);
}

#[tokio::test]
async fn a_public_route_asks_nobody() {
    let ingress = with_keys()
        .route("health", who().public().methods([Method::GET]))
        .build()
        .expect("valid");
    for headers in [
        &[][..],
        &[("authorization", "wrong")],
        &[("authorization", "key-one")],
    ] {
        let reply = call(&ingress, request(Method::GET, "/health", headers)).await;
        assert_eq!((reply.status, reply.message()), (200, "nobody"));
    }
    // Another method is no public route.
    let reply = call(&ingress, request(Method::POST, "/health", &[])).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_rule_of_the_route_forbids_what_it_does_not_allow() {
    let rule = |identity: &Identity| {
        assert!(identity.name() != "panics");
        identity.name() == "ops"
    };
    let ingress = with_keys()
        .route("stop", who().allow(rule))
        .build()
        .expect("valid");
    let with = |key| request(Method::POST, "/stop", &[("authorization", key)]);
    let reply = call(&ingress, with("key two")).await;
    assert_eq!((reply.status, reply.message()), (200, "ops"));
    let reply = call(&ingress, with("key-one")).await;
    assert_eq!((reply.status, reply.message()), (403, "not allowed"));
    assert_eq!(call(&ingress, with("wrong")).await.status, 401);
}

#[tokio::test]
async fn without_keys_everybody_is_nobody() {
    let off = [
        Ingress::builder(),
        Ingress::builder().api_keys(ApiKeys::default()),
        Ingress::builder()
            .api_keys(keys())
            .api_keys(ApiKeys::new([("", ""); 0]).expect("valid")),
    ];
    for builder in off {
        let reply = ask(builder.route("who", who()), &[]).await;
        assert_eq!((reply.status, reply.message()), (200, "nobody"));
    }
}

#[test]
fn a_key_that_nobody_could_send_is_a_configuration_error() {
    for (key, reason) in [
        ("", "is empty"),
        ("Bearer ", "is empty"),
        (
            " key",
            "begins or ends with a space, which headers cannot carry",
        ),
        (
            "key ",
            "begins or ends with a space, which headers cannot carry",
        ),
        (
            "k\ney",
            "has a control character in it, which headers cannot carry",
        ),
        ("first-key", "is the same as another one"),
        ("bearer first-key", "is the same as another one"),
    ] {
        let error = ApiKeys::new([("first", "first-key"), ("second", key)]).expect_err("invalid");
        let name = "second".to_owned();
        assert_eq!(
            error,
            ConfigError::InvalidCredential { name, reason },
            "{key:?}"
        );
        assert!(!error.to_string().contains("key"));
    }
}

#[test]
fn a_rule_without_authentication_is_a_configuration_error() {
    let builder = Ingress::builder().route("a", who().allow(|_| true));
    let name = "a".to_owned();
    let expected = ConfigError::AllowWithoutAuthentication { name };
    assert_eq!(builder.build().expect_err("invalid"), expected);
}

/// Knows names in `x-user`, late; knows which are forbidden, and fails in two ways.
struct Users;

#[derive(Debug, PartialEq)]
struct Tenant(u32);

impl Authenticate for Users {
    async fn authenticate(&self, head: &Parts) -> Result<Identity, ErrorAnswer> {
        tokio::task::yield_now().await;
        let user = head
            .headers
            .get("x-user")
            .and_then(|user| user.to_str().ok());
        match user {
            None => {
                let challenge = HeaderValue::from_static("Basic realm=\"t\"");
                Err(ErrorAnswer::unauthorized("who are you?").with_challenge(challenge))
            }
            Some("mallory") => Err(ErrorAnswer::forbidden("go away")),
            Some("panics") => panic!("secret"),
            Some("hangs") => std::future::pending().await,
            Some(user) => {
                let seen = format!("{user} {} {}", head.method, head.uri);
                Ok(Identity::new(seen).with_claims(Tenant(7)))
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ones_own_authentication_decides_and_its_claims_reach_the_handler() {
    let tenant = Route::handler_fn(|context: Context, _| async move {
        let tenant = context
            .identity()
            .and_then(|identity| identity.claims::<Tenant>());
        assert_eq!(tenant, Some(&Tenant(7)));
        context.identity().expect("known").name().to_owned()
    });
    let builder = || {
        Ingress::builder()
            .handler_timeout(Duration::from_secs(3))
            .authenticate(Users)
            .route("who", tenant.clone())
    };
    let reply = ask(builder(), &[("x-user", "ann")]).await;
    assert_eq!((reply.status, reply.message()), (200, "ann POST /who"));
    let reply = ask(builder(), &[]).await;
    assert_eq!((reply.status, reply.message()), (401, "who are you?"));
    assert_eq!(reply.headers["www-authenticate"], "Basic realm=\"t\"");
    for (user, status, message) in [
        ("mallory", 403, "go away"),
        ("panics", 500, "internal error"),
        ("hangs", 504, "deadline passed"),
    ] {
        let reply = ask(builder(), &[("x-user", user)]).await;
        assert_eq!((reply.status, reply.message()), (status, message));
    }
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_route_cannot_be_told_from_others_whoever_authenticates() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a port");
    let credential = ShutdownCredential::new("stop").expect("valid");
    let ingress = Ingress::builder()
        .handler_timeout(Duration::from_secs(3))
        .authenticate(Users)
        .shutdown_route(server.handle(), credential)
        .build()
        .expect("valid");
    for headers in [
        &[][..],
        &[("authorization", "wrong")],
        &[("x-user", "mallory")],
        &[("x-user", "panics")],
        &[("x-user", "hangs")],
    ] {
        let seen = async |path| {
            let mut reply = call(&ingress, request(Method::POST, path, headers)).await;
            reply.headers.remove("x-request-id");
            (reply.status, reply.headers, reply.json)
        };
        assert_eq!(seen("/shutdown").await, seen("/nobody").await);
    }
    // Whoever is known and holds nothing stops nothing, and whoever holds it need not be known.
    let known = request(Method::POST, "/shutdown", &[("x-user", "ann")]);
    assert_eq!(call(&ingress, known).await.status, 401);
    assert!(!server.handle().is_draining());
    let holder = request(Method::POST, "/shutdown", &[("authorization", "stop")]);
    assert_eq!(call(&ingress, holder).await.status, 200);
}

#[tokio::test]
async fn a_mounted_service_finds_the_identity_among_the_extensions() {
    let service = service_fn(|request: Request<Body>| async move {
        let name = request
            .extensions()
            .get::<Identity>()
            .map(|who| who.name().to_owned());
        let json = serde_json::json!({ "message": name }).to_string();
        Ok::<_, io::Error>(http::Response::new(Body::from(json)))
    });
    let builder = Ingress::builder()
        .api_keys(keys())
        .mount("who", Route::service(service));
    let reply = ask(builder, &[("x-api-key", "key-one")]).await;
    assert_eq!((reply.status, reply.message()), (200, "ci"));
}

#[tokio::test]
async fn keys_alone_let_nobody_in_without_one_of_them() {
    let head = Request::new(()).into_parts().0;
    let refused = ApiKeys::default()
        .authenticate(&head)
        .await
        .expect_err("refused");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn what_authenticates_can_be_sent_and_shared() {
    static_assertions::assert_impl_all!(ApiKeys: Clone, Send, Sync, Authenticate);
    static_assertions::assert_impl_all!(Identity: Clone, Send, Sync, std::fmt::Debug);
    static_assertions::assert_impl_all!(ShutdownCredential: Clone, Send, Sync);
}

#[tokio::test]
async fn what_sees_the_ingress_is_guarded_but_for_health_whatever_is_public() {
    let ingress = with_keys()
        .seeing(&Seeing::new())
        .fallback(who().public().methods([Method::GET]))
        .build()
        .expect("valid");
    let status = async |path: &str, headers: &[(&'static str, &str)]| {
        let request = request(Method::GET, path, headers);
        let answer = ingress.clone().oneshot(request).await;
        answer.expect("infallible").status().as_u16()
    };
    let key = [("x-api-key", "key-one")];
    assert_eq!(status("/healthz", &[]).await, 200);
    assert_eq!(status("/metrics", &[]).await, 401);
    assert_eq!(status("/metrics", &key).await, 200);
    assert_eq!(status("/nobody", &[]).await, 200);
}
