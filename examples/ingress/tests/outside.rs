//! The program itself: started with its flags, spoken to over sockets, stopped by a signal or by its
//! route.

#[path = "../../support/program.rs"]
mod program;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, ExitStatus, Stdio},
};

use program::{Program, Signal};
use serde_json::Value;

/// The running program.
struct Server(Program);

struct Answer {
    status: u16,
    head: String,
    body: String,
}

// === impl Server ===

impl Server {
    fn start(flags: &str) -> Self {
        Self(Program::start(&mut ingress(&format!(
            "--listen 127.0.0.1:0 {flags}"
        ))))
    }

    /// Sends a request on a connection of its own.
    fn send(&self, line: &str, headers: &[&str], body: &str) -> TcpStream {
        let mut stream = self.0.connect();
        let mut headers = headers.join("\r\n");
        if !headers.is_empty() {
            headers.push_str("\r\n");
        }
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        read(self.send(line, headers, body))
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(&format!("POST {path}"), &[], body)
    }

    /// Its last line, and how it ended.
    fn report(self) -> (Value, ExitStatus) {
        let (status, lines) = self.0.end();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let report = serde_json::from_str(&lines[0]).expect("JSON");
        (report, status)
    }
}

fn ingress(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ingress"));
    command
        .args(flags.split_whitespace())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn read(mut stream: TcpStream) -> Answer {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    Answer {
        status: head[9..12].parse().expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

#[test]
fn every_route_does_what_it_says() {
    let server = Server::start("");
    let echoed = server.post("/echo", "hi");
    assert_eq!(
        (echoed.status, &*echoed.body),
        (200, r#"{"message":"hi","status":"Ok"}"#)
    );
    let failed = server.post("/fail", "x");
    let error = r#"{"message":"boom: x","status":"Error"}"#;
    assert_eq!((failed.status, &*failed.body), (500, error));
    let panicked = server.post("/panics", "a secret");
    assert_eq!(panicked.status, 500);
    assert!(!panicked.body.contains("secret"), "{}", panicked.body);
    assert_eq!(server.post("/slow", "1").status, 200);
    assert_eq!(server.post("/slow", "a while").status, 400);

    let json = &["content-type: application/json"];
    let added = server.ask("POST /sum", json, r#"{"a":1,"b":2}"#);
    assert_eq!((added.status, &*added.body), (200, r#"{"sum":3}"#));
    let wrong = server.ask("POST /sum", json, r#"{"a":1,"b":"2"}"#);
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains(r#""pointer":"/b""#), "{}", wrong.body);
    let large = server.ask("POST /sum", json, r#"{"a":9223372036854775807,"b":1}"#);
    assert_eq!(large.status, 400, "{}", large.body);
    for path in ["/healthz", "/readyz", "/metrics", "/_spark"] {
        assert_eq!(
            server.ask(&format!("GET {path}"), &[], "").status,
            200,
            "{path}"
        );
    }
    assert_eq!(server.post("/shutdown", "").status, 404);
}

#[test]
fn what_is_published_reaches_those_who_listen() {
    let server = Server::start("");
    let listener = server.send("GET /events", &[], "");
    let mut listener = BufReader::new(listener);
    let mut line = String::new();
    // The head comes when the subscription exists.
    while line != "\r\n" {
        line.clear();
        listener.read_line(&mut line).expect("a line");
    }
    assert_eq!(server.post("/events", "news").status, 200);
    while !line.starts_with("data: ") {
        line.clear();
        listener.read_line(&mut line).expect("a line");
    }
    assert_eq!(line.trim(), r#"data: {"number":1,"text":"news"}"#);
}

#[test]
fn keys_are_asked_for_before_anything_is_said() {
    let server = Server::start("--api-key one --api-key two");
    for path in ["/echo", "/nobody"] {
        let refused = server.post(path, "x");
        assert_eq!(refused.status, 401);
        assert!(refused.body.contains("Missing API Key"), "{}", refused.body);
    }
    let wrong = server.ask("POST /echo", &["authorization: Bearer three"], "x");
    assert!(wrong.body.contains("Invalid API Key"), "{}", wrong.body);
    for key in ["authorization: Bearer two", "authorization: one"] {
        assert_eq!(server.ask("POST /echo", &[key], "x").status, 200);
    }
    assert_eq!(server.ask("GET /healthz", &[], "").status, 200);
}

#[test]
fn limits_are_answered_from_the_table() {
    let server = Server::start("--body-limit 10 --header-timeout-ms 100 --handler-timeout-ms 100");
    assert_eq!(server.post("/echo", "12345678901").status, 413);
    assert_eq!(server.post("/slow", "60000").status, 504);
    let mut slow = server.0.connect();
    slow.write_all(b"POST /echo HT").expect("sent");
    assert_eq!(read(slow).status, 408);
}

#[test]
fn whoever_is_one_too_many_is_told_when_to_come_back() {
    let server = Server::start("--drain-ms 1000");
    let requests: Vec<_> = (0..4)
        .map(|_| server.send("POST /slow", &[], "1500"))
        .collect();
    let mut answers: Vec<_> = requests.into_iter().map(read).collect();
    answers.sort_by_key(|answer| answer.status);

    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 503]);
    assert!(answers[3].head.to_lowercase().contains("retry-after: "));
}

#[test]
fn a_signal_ends_it_with_a_report_when_what_is_under_way_is_done() {
    let server = Server::start("");
    assert_eq!(server.post("/echo", "x").status, 200);
    let listener = server.send("GET /events", &[], "");
    let under_way = server.send("POST /slow", &[], "500");
    // Answered after it: so what is under way has come in.
    assert_eq!(server.post("/echo", "x").status, 200);
    server.0.signal(Signal::TERM);

    assert_eq!(read(under_way).status, 200);
    drop(listener);
    let (report, status) = server.report();
    assert!(status.success(), "{status}");
    assert_eq!(report["cut"], 0, "{report}");
    assert_eq!(
        (&report["upgraded"], &report["upgraded_cut"]),
        (&0.into(), &0.into())
    );
    let modules = report["modules"].as_array().expect("modules");
    let slow = modules.iter().find(|module| module["module"] == "slow");
    assert_eq!(slow.expect("slow")["handled"], 1);
}

#[test]
fn the_shutdown_route_asks_for_its_own_credential() {
    let server = Server::start("--api-key key --enable-shutdown stop");
    assert_eq!(
        server
            .ask("GET /shutdown", &["authorization: key"], "")
            .status,
        405
    );
    assert_eq!(
        server
            .ask("POST /shutdown", &["authorization: key"], "")
            .status,
        401
    );
    let stopped = server.ask("POST /shutdown", &["authorization: stop"], "");
    assert_eq!(
        (stopped.status, &*stopped.body),
        (200, r#"{"status":"Shutting down"}"#)
    );
    let (report, status) = server.report();
    assert!(status.success(), "{status}");
    assert_eq!(report["deadline_passed"], false);
}

#[test]
fn without_a_credential_of_its_own_it_asks_for_an_api_key() {
    let server = Server::start("--api-key key --enable-shutdown");
    assert_eq!(server.post("/shutdown", "").status, 401);
    let stopped = server.ask("POST /shutdown", &["authorization: Bearer key"], "");
    assert_eq!(
        (stopped.status, &*stopped.body),
        (200, r#"{"status":"Shutting down"}"#)
    );
    assert!(server.report().1.success());
}

#[test]
fn a_configuration_that_cannot_work_does_not_start() {
    for flags in [
        "--enable-shutdown",
        "--tls-cert nowhere.pem",
        "--tls-cert nowhere.pem --tls-key nowhere.pem",
        "--allow-name somebody",
        "--max-in-flight 0",
        "--handler-timeout-ms 0",
        "--listen nowhere:0",
    ] {
        let status = ingress(flags).stdout(Stdio::null()).status();
        assert!(!status.expect("the program runs").success(), "{flags}");
    }
}
