//! The program itself: started with its flags, spoken to over sockets, stopped by a signal, killed.

#[path = "../../support/program.rs"]
mod program;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use program::{LIMIT, Program, Signal};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The running program.
struct Server(Program);

/// A file of its own, removed at the end.
struct Scratch(PathBuf);

// === impl Server ===

impl Server {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shared-state"));
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        Self(Program::start(&mut command))
    }

    fn keeping(file: &Path, every: &str) -> Self {
        let file = file.to_str().expect("a path of letters");
        Self::start(&["--file", file, "--save-every-ms", every])
    }

    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = self.0.connect();
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    fn ask(&self, head: &str, body: &str) -> (u16, Value) {
        let mut answer = String::new();
        let mut stream = self.send(head, body);
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn state(&self, request: &Value) -> (u16, Value) {
        self.ask("POST /state", &request.to_string())
    }

    fn increment(&self) -> i64 {
        let (status, answer) = self.state(&json!({"do": "increment", "key": "hits", "by": 1}));
        assert_eq!(status, 200, "{answer}");
        answer["value"]["value"].as_i64().expect("a number")
    }

    /// Sends SIGTERM and waits for a clean end.
    fn terminate(self) {
        self.0.signal(Signal::TERM);
        let (status, _) = self.0.end();
        assert!(status.success(), "{status}");
    }

    fn kill(self) {
        self.0.signal(Signal::KILL);
        let (status, _) = self.0.end();
        assert!(!status.success(), "{status}");
    }
}

// === impl Scratch ===

impl Scratch {
    fn new(name: &str) -> Self {
        let id = std::process::id();
        let file = env::temp_dir().join(format!("shared-state-{name}-{id}.json"));
        let _ = fs::remove_file(&file);
        Self(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn every_kind_of_request_is_answered() {
    let server = Server::start(&[]);
    assert_eq!(server.increment(), 1);
    assert_eq!(server.increment(), 2);
    let text = json!({"kind": "string", "value": "hello"});
    let requests = [
        (
            json!({"do": "insert", "key": "text", "value": text}),
            json!({"version": 1}),
        ),
        (
            json!({"do": "get", "key": "text"}),
            json!({"value": text, "version": 1}),
        ),
        (
            json!({"do": "keys"}),
            json!({"keys": ["double", "hits", "text"], "more": false}),
        ),
        (
            json!({"do": "call", "key": "double", "argument": {"kind": "long", "value": 21}}),
            json!({"returned": {"kind": "long", "value": 42}}),
        ),
        (
            json!({"do": "remove", "key": "text"}),
            json!({"removed": true}),
        ),
    ];
    for (request, answer) in requests {
        assert_eq!(server.state(&request), (200, answer), "{request}");
    }
    server.terminate();
}

#[test]
fn what_is_wrong_is_answered_from_the_table_and_ends_nothing() {
    let server = Server::start(&[]);
    server.increment();
    let long = json!({"kind": "long", "value": 1});
    for (status, request) in [
        (404, json!({"do": "get", "key": "nobody"})),
        (409, json!({"do": "append", "key": "hits", "text": "x"})),
        (
            409,
            json!({"do": "increment", "key": "hits", "by": i64::MAX}),
        ),
        (
            409,
            json!({"do": "compare_and_swap", "key": "hits", "expected": 9, "value": long}),
        ),
        (409, json!({"do": "call", "key": "hits"})),
        (422, json!({"do": "get", "key": "double"})),
        (400, json!({"do": "destroy", "key": "hits"})),
        (
            400,
            json!({"do": "insert", "key": "hits", "value": {"kind": "long", "value": "1"}}),
        ),
        (
            400,
            json!({"do": "insert", "key": "hits", "value": {"kind": "bytes", "value": "%%"}}),
        ),
        (400, json!([])),
    ] {
        let (found, answer) = server.state(&request);
        assert_eq!(found, status, "{request}: {answer}");
        assert_eq!(answer["status"], "Error", "{request}: {answer}");
    }
    for (status, head, body) in [
        (400, "POST /state", "{\"do\": "),
        (405, "GET /state", ""),
        (405, "POST /watch/hits", "{}"),
        (404, "GET /nowhere", ""),
    ] {
        assert_eq!(server.ask(head, body).0, status, "{head} {body}");
    }
    assert_eq!(server.increment(), 2);
    server.terminate();
}

#[test]
fn an_error_names_the_key_as_the_client_did() {
    let server = Server::start(&[]);
    server.increment();
    for (request, message) in [
        (
            json!({"do": "get", "key": "nobody"}),
            r#"no value for "nobody""#,
        ),
        (
            json!({"do": "append", "key": "hits", "text": "x"}),
            r#""hits" is of type long, not string"#,
        ),
        (
            json!({"do": "call", "key": "hits"}),
            r#""hits" is of type long, not a function"#,
        ),
    ] {
        assert_eq!(server.state(&request).1["message"], message);
    }
    server.terminate();
}

#[test]
fn a_watcher_sees_each_value_until_the_server_drains() {
    let server = Server::start(&[]);
    let mut watcher = BufReader::new(server.send("GET /watch/hits", ""));
    let mut next = || {
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            let read = watcher.read_line(&mut line).expect("a line");
            assert_ne!(read, 0, "the answer goes on");
        }
        serde_json::from_str::<Value>(&line[6..]).expect("JSON")
    };
    assert_eq!(next(), Value::Null);
    server.increment();
    assert_eq!(next(), json!({"kind": "long", "value": 1}));
    server.terminate();
    let mut rest = String::new();
    watcher.read_to_string(&mut rest).expect("a clean end");
}

#[test]
fn what_is_there_at_the_end_is_there_at_the_next_start() {
    let scratch = Scratch::new("restart");
    let server = Server::keeping(&scratch.0, "3600000");
    for _ in 0..3 {
        server.increment();
    }
    server.terminate();
    let server = Server::keeping(&scratch.0, "3600000");
    assert_eq!(server.increment(), 4);
    server.terminate();
}

#[test]
fn a_program_that_is_killed_starts_again_with_what_it_had_saved() {
    let scratch = Scratch::new("killed");
    let mut last = 0;
    for round in 0..5 {
        let server = Server::keeping(&scratch.0, "1");
        for _ in 0..20 {
            let now = server.increment();
            assert!(now > last, "round {round}: {now} after {last}");
        }
        // Saved after the twentieth: from then on, no kill can lose it.
        let wanted = server.increment();
        let end = Instant::now() + LIMIT;
        while saved(&scratch.0) < wanted {
            assert!(Instant::now() < end, "it saves");
            std::thread::yield_now();
        }
        last = wanted;
        server.kill();
    }
}

#[test]
fn a_file_that_is_no_snapshot_is_left_alone() {
    let scratch = Scratch::new("foreign");
    fs::write(&scratch.0, "dear diary").expect("there is a place");
    let status = Command::new(env!("CARGO_BIN_EXE_shared-state"))
        .args(["--listen", "127.0.0.1:0", "--file"])
        .arg(&scratch.0)
        .stderr(Stdio::null())
        .status();
    assert!(!status.expect("the program runs").success());
    assert_eq!(
        fs::read_to_string(&scratch.0).expect("it is there"),
        "dear diary"
    );
}

/// What the file says of `hits`.
fn saved(file: &Path) -> i64 {
    let Ok(text) = fs::read_to_string(file) else {
        return 0;
    };
    let snapshot: Value = serde_json::from_str(&text).expect("a file is whole at every moment");
    let entries = snapshot["entries"].as_array().expect("entries");
    let hits = entries.iter().find(|entry| entry["key"] == "hits");
    hits.map_or(0, |hits| hits["value"]["value"].as_i64().expect("a number"))
}
