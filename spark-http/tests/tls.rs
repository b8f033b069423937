//! TLS: what may be configured and what is an error, who is let in, and what the source system did
//! instead (partial configurations silently plain, PKCS#8 keys that panic, common names only, a
//! fixed address).
#![cfg(feature = "tls")]

use std::{error::Error as _, fmt::Debug, time::Duration};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use rustls::crypto::CryptoProvider;
use spark_http::{
    BindError, Body, ClientCa, ClientNames, ConfigError, Endpoint, HttpServer, Ingress, Pem, Route,
    TlsConfig, TlsConfigBuilder, TlsError,
};
use tokio::io::AsyncReadExt as _;
use tokio_rustls::TlsConnector;

use crate::{
    authority::{Authority, Leaf, connect},
    scratch::Scratch,
    wire::{Serving, serve as serve_plain, within},
};

#[path = "support/authority.rs"]
mod authority;
#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/wire.rs"]
mod wire;

const RSA_PKCS8: &str = include_str!("keys/rsa-pkcs8.pem");
const EC_PKCS8: &str = include_str!("keys/ec-pkcs8.pem");

fn config(leaf: &Leaf) -> TlsConfigBuilder {
    TlsConfig::builder(
        Pem::content(leaf.certificate.pem()),
        Pem::content(leaf.key.serialize_pem()),
    )
}

/// Answers with what the client's certificate is called.
fn names() -> Ingress {
    Ingress::builder()
        .handler_fn("names", |context, _| async move {
            let names = context.client_certificate().map(|client| {
                let all: Vec<_> = client.names().map(str::to_owned).collect();
                all.join(" ")
            });
            names.unwrap_or_else(|| "nobody".to_owned())
        })
        .build()
        .expect("valid")
}

async fn serve(config: &TlsConfig) -> Serving {
    let builder = HttpServer::builder();
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config.clone()));
    Serving::start(server.await.expect("a free port"), names())
}

/// The status and the message of the answer to one request.
async fn ask(serving: &Serving, connector: &TlsConnector) -> (u16, String) {
    let mut client = connect(serving, connector).await.expect("shaken hands");
    client.post("names", "").await;
    let reply = client.reply().await;
    let json: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    let message = json["message"].as_str().expect("text");
    (reply.status, message.to_owned())
}

#[tokio::test]
async fn keys_are_read_in_every_format_they_come_in() {
    let authority = Authority::new();
    for (key, pkcs8) in [
        (include_str!("keys/rsa-pkcs1.pem"), RSA_PKCS8),
        (RSA_PKCS8, RSA_PKCS8),
        (include_str!("keys/ec-sec1.pem"), EC_PKCS8),
        (EC_PKCS8, EC_PKCS8),
    ] {
        let leaf = authority.server_with(KeyPair::from_pem(pkcs8).expect("a key"));
        let certificate = Pem::content(leaf.certificate.pem());
        let config = TlsConfig::builder(certificate, Pem::content(key)).build();
        let serving = serve(&config.expect(&key[..30])).await;
        let answer = ask(&serving, &authority.trusting(None, &[])).await;
        assert_eq!(answer, (200, "nobody".to_owned()));
    }
}

#[tokio::test]
async fn a_chain_is_sent_whole() {
    let root = Authority::new();
    let between = root.authority();
    let leaf = between.server();
    let chain = leaf.certificate.pem() + &between.pem();
    let key = leaf.key.serialize_pem();
    let config = TlsConfig::builder(Pem::content(chain), Pem::content(key)).build();
    let serving = serve(&config.expect("valid")).await;
    assert_eq!(ask(&serving, &root.trusting(None, &[])).await.0, 200);
}

fn fails(certificate: impl Into<Pem>, key: impl Into<Pem>) -> TlsError {
    let built = TlsConfig::builder(certificate, key).build();
    built.expect_err("does not work")
}

#[test]
fn what_cannot_work_is_an_error_that_names_the_file() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let (leaf, other) = (authority.server(), authority.server());
    let certificate = files.write("certificate.pem", leaf.certificate.pem());
    let key = files.write("key.pem", leaf.key.serialize_pem());
    let others = files.write("other.pem", other.key.serialize_pem());
    let empty = files.write("empty.pem", "");
    let damaged = "-----BEGIN CERTIFICATE-----\nsecret!\n-----END CERTIFICATE-----\n";
    let damaged = files.write("damaged.pem", damaged);
    let encrypted = files.write("encrypted.pem", include_str!("keys/ec-encrypted.pem"));
    let nowhere = files.path("nowhere.pem");

    let named = |error: TlsError, file: &str| {
        let text = error.to_string();
        assert!(text.contains(file), "{text}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        error
    };
    let error = named(fails(&nowhere, &key), "nowhere.pem");
    assert!(matches!(error, TlsError::Unreadable { .. }));
    assert!(error.source().is_some());
    let error = named(fails(&certificate, &nowhere), "nowhere.pem");
    assert!(matches!(error, TlsError::Unreadable { .. }));
    let error = named(fails(&empty, &key), "empty.pem");
    assert!(matches!(error, TlsError::NoCertificate { .. }));
    let error = named(fails(&certificate, &empty), "empty.pem");
    assert!(matches!(error, TlsError::NoPrivateKey { .. }));
    let error = named(fails(&key, &key), "key.pem");
    assert!(matches!(error, TlsError::NoCertificate { .. }));
    let error = named(fails(&certificate, &certificate), "certificate.pem");
    assert!(matches!(error, TlsError::NoPrivateKey { .. }));
    let error = named(fails(&certificate, &encrypted), "encrypted.pem");
    assert!(matches!(error, TlsError::NoPrivateKey { .. }));
    let error = named(fails(&damaged, &key), "damaged.pem");
    assert!(matches!(error, TlsError::BadPem { .. }));
    let error = named(fails(&certificate, &others), "other.pem");
    assert!(matches!(error, TlsError::KeyMismatch { .. }));
    TlsConfig::builder(&certificate, &key)
        .build()
        .expect("valid");
}

#[test]
fn allowed_names_that_nobody_can_have_are_an_error() {
    let authority = Authority::new();
    let leaf = authority.server();
    let ca = || ClientCa::new(Pem::content(authority.pem()));
    for ca in [
        ca().allow_name(""),
        ca().allow_names(["somebody", ""]),
        ca().allow_names(Vec::<String>::new()),
    ] {
        let built = config(&leaf).client_ca(ca).build();
        assert!(matches!(built, Err(TlsError::EmptyName)));
    }
    let empty = config(&leaf)
        .client_ca(ClientCa::new(Pem::content("")))
        .build();
    assert!(matches!(empty, Err(TlsError::NoCertificate { .. })));
}

#[test]
fn a_key_is_never_shown() {
    let leaf = Authority::new().server();
    let shown = |value: &dyn Debug| format!("{value:?}");
    let key = Pem::content(leaf.key.serialize_pem());
    let built = config(&leaf).build().expect("valid");
    let all = shown(&key) + &shown(&config(&leaf)) + &shown(&built) + &key.to_string();
    let all = all + &shown(&Endpoint::tls("127.0.0.1:0", built));
    assert!(!all.contains("BEGIN") && !all.contains("45, 45"), "{all}");
}

#[tokio::test]
async fn plain_http_on_a_port_with_tls_is_refused_and_never_runs() {
    let authority = Authority::new();
    let serving = serve(&config(&authority.server()).build().expect("valid")).await;
    let mut plain = serving.connect().await;
    plain.post("names", "").await;
    let reply = plain.reply().await;
    assert_eq!((reply.status, reply.closes()), (400, true));
    let expected = r#"{"message":"only TLS is spoken on this port","status":"Error"}"#;
    assert_eq!(reply.body, expected);
    plain.closed().await;

    let mut rubbish = serving.connect().await;
    rubbish.send([0xff; 100]).await;
    let mut alert = Vec::new();
    let _ = within(rubbish.stream.read_to_end(&mut alert)).await;
    assert!(!alert.starts_with(b"HTTP"), "{}", alert.escape_ascii());
    let report = serving.drain().await;
    assert_eq!((report.connections, report.served), (2, 0));
}

#[tokio::test]
async fn a_handshake_on_a_port_without_tls_fails() {
    let serving = serve_plain(HttpServer::builder(), names()).await;
    let connector = Authority::new().trusting(None, &[]);
    assert!(connect(&serving, &connector).await.is_err());
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_closed_and_holds_up_nobody() {
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let builder = HttpServer::builder().head_timeout(Duration::from_millis(200));
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config)).await;
    let serving = Serving::start(server.expect("a free port"), names());
    let mut silent = serving.connect().await;
    let mut half = serving.connect().await;
    half.send(b"\x16\x03\x01\x02\x00").await;
    assert_eq!(ask(&serving, &authority.trusting(None, &[])).await.0, 200);
    silent.closed().await;
    half.closed().await;
}

#[tokio::test]
async fn a_handshake_does_not_hold_a_drain_up() {
    let authority = Authority::new();
    let serving = serve(&config(&authority.server()).build().expect("valid")).await;
    let mut silent = serving.connect().await;
    ask(&serving, &authority.trusting(None, &[])).await;
    let report = serving.drain().await;
    assert!(!report.deadline_passed);
    assert_eq!((report.connections, report.served), (2, 1));
    silent.closed().await;
}

#[tokio::test]
async fn a_connection_with_tls_ends_with_a_word_of_farewell() {
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let builder = HttpServer::builder().keep_alive(Duration::from_millis(50));
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config)).await;
    let serving = Serving::start(server.expect("a free port"), names());
    let connector = authority.trusting(None, &[]);
    let mut client = connect(&serving, &connector).await.expect("shaken hands");
    client.post("names", "").await;
    client.reply().await;
    // Anything else than `close_notify` is an error here.
    let end = within(client.stream.read(&mut [0])).await;
    assert_eq!(end.expect("a clean end"), 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let huge = |_, _| async { spark_http::Answer::new(Body::from(vec![0; 64 * 1024 * 1024])) };
    let ingress = Ingress::builder().handler_fn("huge", huge).build();
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(100));
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config)).await;
    let serving = Serving::start(server.expect("a free port"), ingress.expect("valid"));
    let connector = authority.trusting(None, &[]);
    let mut client = connect(&serving, &connector).await.expect("shaken hands");
    client.post("huge", "").await;
    let (stream, _) = client.stream.get_ref();
    within(stream.readable())
        .await
        .expect("the answer has begun");
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (0, 1, 0));
    assert!(!report.deadline_passed);
}

#[tokio::test]
async fn protocols_are_negotiated() {
    let authority = Authority::new();
    let serving = serve(&config(&authority.server()).build().expect("valid")).await;
    let connector = authority.trusting(None, &[b"http/1.1"]);
    let client = connect(&serving, &connector).await.expect("shaken hands");
    let (_, session) = client.stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    let unknown = authority.trusting(None, &[b"gopher"]);
    assert!(connect(&serving, &unknown).await.is_err());
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn who_offers_http_2_gets_it() {
    let authority = Authority::new();
    let serving = serve(&config(&authority.server()).build().expect("valid")).await;
    let connector = authority.trusting(None, &[b"h2", b"http/1.1"]);
    let client = connect(&serving, &connector).await.expect("shaken hands");
    let (_, session) = client.stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    let begun = within(h2::client::handshake(client.stream)).await;
    let (requests, connection) = begun.expect("begun");
    let connection = tokio::spawn(connection);
    let mut requests = within(requests.ready()).await.expect("open");
    let request = http::Request::post("https://localhost/names").body(());
    let sent = requests.send_request(request.expect("valid"), true);
    let answer = within(sent.expect("sent").0).await.expect("answered");
    assert_eq!(answer.status(), 200);
    drop((requests, answer));
    // The same port, for who offers nothing.
    assert_eq!(ask(&serving, &authority.trusting(None, &[])).await.0, 200);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (2, 0, 0));
    assert!(within(connection).await.expect("no panic").is_ok());
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("ASCII"))
}

fn email(name: &str) -> SanType {
    SanType::Rfc822Name(name.try_into().expect("ASCII"))
}

/// Whether a request goes through; a client that is turned away may see it only as it reads.
async fn is_let_in(serving: &Serving, connector: &TlsConnector) -> bool {
    let Ok(mut client) = connect(serving, connector).await else {
        return false;
    };
    client.post("names", "").await;
    client.reply_or_end().await.is_some()
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_ca_is_not_let_in() {
    let (servers, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let ca = ClientCa::new(Pem::content(clients.pem()));
    let config = config(&servers.server()).client_ca(ca).build();
    let serving = serve(&config.expect("valid")).await;
    assert!(!is_let_in(&serving, &servers.trusting(None, &[])).await);
    let stranger = strangers.client("known", vec![dns("known")]);
    assert!(!is_let_in(&serving, &servers.trusting(Some(&stranger), &[])).await);
    let known = clients.client("known", vec![dns("a.example"), uri("spiffe://a")]);
    let answer = ask(&serving, &servers.trusting(Some(&known), &[])).await;
    assert_eq!(answer, (200, "a.example spiffe://a known".to_owned()));
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn a_certificate_must_be_valid_today_and_for_clients() {
    let authority = Authority::new();
    let ca = ClientCa::new(Pem::content(authority.pem()));
    let config = config(&authority.server()).client_ca(ca).build();
    let serving = serve(&config.expect("valid")).await;
    let past = authority.client_with("x", vec![], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let future = authority.client_with("x", vec![], |params| {
        params.not_before = date_time_ymd(2500, 1, 1);
    });
    let server = authority.client_with("x", vec![], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for leaf in [&past, &future, &server] {
        assert!(!is_let_in(&serving, &authority.trusting(Some(leaf), &[])).await);
    }
    let valid = authority.client("x", vec![]);
    assert!(is_let_in(&serving, &authority.trusting(Some(&valid), &[])).await);
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn a_client_shows_its_whole_chain() {
    let authority = Authority::new();
    let ca = ClientCa::new(Pem::content(authority.pem())).allow_name("leaf");
    let config = config(&authority.server()).client_ca(ca).build();
    let serving = serve(&config.expect("valid")).await;
    let mut leaf = authority.authority().client("leaf", vec![]);
    let answer = ask(&serving, &authority.trusting(Some(&leaf), &[])).await;
    assert_eq!(answer, (200, "leaf".to_owned()));
    // The name of an authority between is nobody's.
    let other = authority.authority().client("other", vec![]);
    let answer = ask(&serving, &authority.trusting(Some(&other), &[])).await;
    assert_eq!(answer.0, 403);
    leaf.between.clear();
    assert!(!is_let_in(&serving, &authority.trusting(Some(&leaf), &[])).await);
}

/// Answers with whom it takes the client for.
fn who(names: ClientNames) -> Ingress {
    let who = Route::handler_fn(|context, _| async move {
        let identity = context.identity().expect("authenticated");
        identity.name().to_owned()
    });
    let owners = Route::handler_fn(|_, _| async { "owner" });
    let builder = Ingress::builder().authenticate(names).route("names", who);
    let builder = builder.route("own", owners.allow(|who| who.name() == "owner"));
    builder.build().expect("valid")
}

#[tokio::test]
async fn names_in_certificates_become_identities() {
    let authority = Authority::new();
    let names = ClientNames::new([
        ("spiffe://b/c", "service"),
        ("A.Example", "host"),
        ("d@e.example", "owner"),
        ("common", "host"),
    ]);
    let ca = ClientCa::new(Pem::content(authority.pem()));
    let config = config(&authority.server()).client_ca(ca).build();
    let builder = HttpServer::builder().endpoint("127.0.0.1:0");
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config.expect("valid")));
    let server = server.await.expect("two free ports");
    let tls = server.local_addrs()[1].as_socket_addr().expect("TCP");
    let mut serving = Serving::start(server, who(names.expect("valid")));
    let mut plain = serving.connect().await;
    plain.post("names", "").await;
    let refused = plain.reply().await;
    assert_eq!(refused.status, 401, "{}", refused.body);

    serving.address = tls;
    let identity = async |common: &str, alternatives| {
        let client = authority.client(common, alternatives);
        ask(&serving, &authority.trusting(Some(&client), &[])).await
    };
    let known = |name: &str| (200, name.to_owned());
    assert_eq!(identity("x", vec![dns("a.example")]).await, known("host"));
    assert_eq!(identity("common", vec![]).await, known("host"));
    assert_eq!(
        identity("x", vec![email("d@e.example")]).await,
        known("owner")
    );
    let both = vec![email("d@e.example"), uri("spiffe://b/c")];
    assert_eq!(identity("x", both).await, known("service"), "given first");
    for stranger in ["", "Common", "common\0", "\0common", "common "] {
        assert_eq!(identity(stranger, vec![]).await.0, 403, "{stranger:?}");
    }

    let owner = authority.client("x", vec![email("d@e.example")]);
    for (client, status) in [(owner, 200), (authority.client("common", vec![]), 403)] {
        let connector = authority.trusting(Some(&client), &[]);
        let mut client = connect(&serving, &connector).await.expect("shaken hands");
        client.post("own", "").await;
        assert_eq!(client.reply().await.status, status);
    }
}

#[test]
fn names_that_no_certificate_or_two_identities_have_are_an_error() {
    for names in [[("", "a"), ("b", "b")], [("b", "a"), ("b", "b")]] {
        let error = ClientNames::new(names).expect_err("cannot work");
        assert!(matches!(error, ConfigError::InvalidCredential { .. }));
    }
}

#[tokio::test]
async fn allowed_names_match_every_kind_of_name_and_nothing_that_only_looks_like_one() {
    let authority = Authority::new();
    let allowed = ["a.example", "spiffe://b/c", "d@e.example", "common name"];
    let ca = ClientCa::new(Pem::content(authority.pem())).allow_names(allowed);
    let config = config(&authority.server()).client_ca(ca).build();
    let serving = serve(&config.expect("valid")).await;
    let status = async |common: &str, alternatives| {
        let client = authority.client(common, alternatives);
        let answer = ask(&serving, &authority.trusting(Some(&client), &[])).await;
        assert!(
            answer.0 == 200 || answer.1.contains("none of the names"),
            "{answer:?}"
        );
        answer.0
    };
    assert_eq!(status("x", vec![dns("a.example")]).await, 200);
    assert_eq!(status("x", vec![dns("x"), dns("A.Example")]).await, 200);
    assert_eq!(status("x", vec![uri("spiffe://b/c")]).await, 200);
    assert_eq!(status("x", vec![email("d@e.example")]).await, 200);
    assert_eq!(status("common name", vec![]).await, 200);

    assert_eq!(status("x", vec![]).await, 403);
    assert_eq!(status("", vec![]).await, 403);
    assert_eq!(status("a.example.net", vec![dns("b.a.example")]).await, 403);
    assert_eq!(status("x", vec![dns("*.example")]).await, 403);
    assert_eq!(status("Common Name", vec![]).await, 403);
    assert_eq!(status("x", vec![uri("spiffe://b/C")]).await, 403);
    assert_eq!(serving.drain().await.served, 11);
}

#[tokio::test]
async fn the_certificate_reaches_the_handler_whole() {
    let authority = Authority::new();
    let ca = ClientCa::new(Pem::content(authority.pem()));
    let config = config(&authority.server()).client_ca(ca).build();
    let client = authority.client("common", vec![email("d@e.example"), uri("u:1"), dns("d")]);
    let der = client.der();
    let ingress = Ingress::builder().handler_fn("names", move |context, _| {
        let client = context.client_certificate().expect("verified").clone();
        assert_eq!(client.der(), &*der);
        assert_eq!(client.common_name(), Some("common"));
        assert!(client.emails().eq(["d@e.example"]));
        assert!(client.uris().eq(["u:1"]) && client.dns_names().eq(["d"]));
        assert!(client.is_called("common") && !client.is_called(""));
        async { "whole" }
    });
    let endpoint = Endpoint::tls("127.0.0.1:0", config.expect("valid"));
    let server = HttpServer::bind(endpoint).await.expect("a free port");
    let serving = Serving::start(server, ingress.build().expect("valid"));
    let answer = ask(&serving, &authority.trusting(Some(&client), &[])).await;
    assert_eq!(answer, (200, "whole".to_owned()));
}

#[tokio::test]
async fn a_reload_changes_certificate_key_and_ca_for_new_connections_only() {
    let (old, new, files) = (Authority::new(), Authority::new(), Scratch::new());
    let write = |authority: &Authority| {
        let leaf = authority.server();
        files.write("certificate.pem", leaf.certificate.pem());
        files.write("key.pem", leaf.key.serialize_pem());
        files.write("ca.pem", authority.pem());
    };
    write(&old);
    let (certificate, key) = (files.path("certificate.pem"), files.path("key.pem"));
    let builder = TlsConfig::builder(&certificate, &key);
    let config = builder
        .client_ca(ClientCa::new(files.path("ca.pem")))
        .build();
    let config = config.expect("valid");
    let serving = serve(&config).await;
    let (old_client, new_client) = (old.client("old", vec![]), new.client("new", vec![]));
    let by_old = old.trusting(Some(&old_client), &[]);
    let by_new = new.trusting(Some(&new_client), &[]);
    let mut open = connect(&serving, &by_old).await.expect("shaken hands");
    open.post("names", "").await;
    assert_eq!(open.reply().await.status, 200);
    assert!(connect(&serving, &by_new).await.is_err());

    write(&new);
    assert_eq!(
        ask(&serving, &by_old).await.0,
        200,
        "not before it is told to"
    );
    config.reload().expect("valid");
    assert_eq!(ask(&serving, &by_new).await, (200, "new".to_owned()));
    assert!(connect(&serving, &by_old).await.is_err());
    open.post("names", "").await;
    assert_eq!(open.reply().await.status, 200);
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let leaf = authority.server();
    let certificate = files.write("certificate.pem", leaf.certificate.pem());
    let key = files.write("key.pem", leaf.key.serialize_pem());
    let config = TlsConfig::builder(&certificate, &key)
        .build()
        .expect("valid");
    let serving = serve(&config).await;
    let connector = authority.trusting(None, &[]);

    files.write("key.pem", authority.server().key.serialize_pem());
    assert!(matches!(config.reload(), Err(TlsError::KeyMismatch { .. })));
    assert_eq!(ask(&serving, &connector).await.0, 200);
    files.write("certificate.pem", "");
    assert!(matches!(
        config.reload(),
        Err(TlsError::NoCertificate { .. })
    ));
    assert_eq!(ask(&serving, &connector).await.0, 200);
}

#[tokio::test]
async fn nothing_is_installed_for_the_process() {
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let serving = serve(&config).await;
    ask(&serving, &authority.trusting(None, &[])).await;
    assert!(CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn an_address_with_tls_is_any_that_is_asked_for_or_an_error() {
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let first = HttpServer::bind(Endpoint::tls("127.0.0.1:0", config.clone())).await;
    let first = first.expect("a free port");
    let address = first.local_addr().to_string();
    assert_ne!(address, "127.0.0.1:0");
    let again = HttpServer::bind(Endpoint::tls(&address, config)).await;
    let error = again.expect_err("taken");
    assert!(error.is_address_in_use());
    assert!(matches!(error, BindError::Listen { address: asked, .. } if asked == address));
}

#[tokio::test]
async fn one_server_speaks_plain_on_one_port_and_tls_on_another() {
    let authority = Authority::new();
    let config = config(&authority.server()).build().expect("valid");
    let builder = HttpServer::builder().endpoint("127.0.0.1:0");
    let server = builder.bind(Endpoint::tls("127.0.0.1:0", config)).await;
    let server = server.expect("two free ports");
    let (plain, tls) = (&server.local_addrs()[0], server.local_addrs()[1].clone());
    assert_eq!(server.local_addr(), plain);
    let mut serving = Serving::start(server, names());
    let mut client = serving.connect().await;
    client.post("names", "").await;
    assert_eq!(client.reply().await.status, 200);
    serving.address = tls.as_socket_addr().expect("TCP");
    assert_eq!(ask(&serving, &authority.trusting(None, &[])).await.0, 200);
    let report = serving.drain().await;
    assert_eq!((report.connections, report.served), (2, 2));
}
