//! The program itself: started as its user starts it, spoken to over a socket, stopped by a signal.

#[path = "../../support/program.rs"]
mod program;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, ExitStatus},
    time::Duration,
};

use program::{LIMIT, Program, Signal};

/// The running program, and the commands it printed.
struct Desk {
    program: Program,
    commands: Vec<String>,
}

// === impl Desk ===

impl Desk {
    /// Starts it on a free port and reads what it prints.
    fn open() -> Self {
        Self::open_for(usize::MAX)
    }

    /// As `open`, for a reader that leaves after so many lines.
    fn open_for(lines_max: usize) -> Self {
        let program = Program::start_for(&mut quickstart(&["--listen", "127.0.0.1:0"]), lines_max);
        let commands = (0..3).filter_map(|_| program.line()).collect();
        Self { program, commands }
    }

    /// Posts on a connection of its own and returns status and body.
    fn post(&self, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.program.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: desk\r\nconnection: close\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    /// Begins a request to `echo`, up to the moment the server asks for its body.
    fn begin_echo(&self, length: usize) -> TcpStream {
        let mut stream = self.program.connect();
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: desk\r\nexpect: 100-continue\r\n\
             content-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).expect("asked for the body");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }

    /// Asks on a connection from before the signal until it is refused; says how often.
    fn wait_until_it_drains(mut open: TcpStream) -> u128 {
        let attempts = LIMIT.as_millis() / PAUSE.as_millis();
        let refused = (1..=attempts).find(|_| {
            std::thread::sleep(PAUSE);
            let nobody = b"POST /nobody HTTP/1.1\r\nhost: desk\r\ncontent-length: 0\r\n\r\n";
            open.write_all(nobody).expect("sent");
            let mut answer = Vec::new();
            while answer.last() != Some(&b'}') {
                let mut byte = [0];
                open.read_exact(&mut byte).expect("an answer");
                answer.extend(byte);
            }
            answer.starts_with(b"HTTP/1.1 503 ")
        });
        refused.expect("draining within the limit")
    }

    fn order(&self, json: &str) -> (u16, String) {
        self.post("/orders", "application/json", json.as_bytes())
    }
}

#[test]
fn it_prints_three_commands_for_the_address_it_listens_on() {
    let desk = Desk::open();
    assert_eq!(desk.commands.len(), 3);
    for command in &desk.commands {
        let start = format!("curl http://{}/", desk.program.address());
        assert!(command.starts_with(&start), "{command}");
    }
}

#[test]
fn an_order_goes_through_stock_pricing_and_audit() {
    let desk = Desk::open();
    assert_eq!(
        desk.post("/echo", "text/plain", b"hi"),
        (200, r#"{"message":"hi","status":"Ok"}"#.to_owned())
    );
    let (status, receipt) = desk.order(r#"{"item":"desk","quantity":2}"#);
    assert_eq!(status, 200);
    let expected =
        r#"{"order":1,"item":"desk","quantity":2,"total_cents":36666,"left_in_stock":18}"#;
    assert_eq!(receipt, expected);
    let (status, log) = desk.post("/audit", "text/plain", b"last 1");
    assert_eq!(status, 200);
    assert!(log.contains("order 1: 2 × desk for 36666 cents"), "{log}");
}

#[test]
fn bad_input_gets_the_error_tables_answer() {
    let desk = Desk::open();
    let cases = [
        (
            r#"{"item":"desk","quantity":21}"#,
            409,
            "only 20 of desk left",
        ),
        (r#"{"item":"boat","quantity":1}"#, 422, "no such item: boat"),
        (
            r#"{"item":"desk","quantity":0}"#,
            400,
            "quantity must be from 1 to 100",
        ),
        (
            r#"{"item":"desk","quantity":"x"}"#,
            400,
            r#""pointer":"/quantity""#,
        ),
        (r#"{"item":"desk"}"#, 400, "missing field `quantity`"),
    ];
    for (json, status, part) in cases {
        let answer = desk.order(json);
        assert_eq!(answer.0, status, "{json}");
        assert!(answer.1.contains(part), "{answer:?}");
        assert!(answer.1.contains(r#""status":"Error""#), "{answer:?}");
    }
    assert_eq!(desk.post("/orders", "text/plain", b"{}").0, 415);
    assert_eq!(desk.post("/echo", "text/plain", b"\xff\xfe").0, 400);
    assert_eq!(desk.post("/nobody", "text/plain", b"").0, 404);

    let mut half = desk.program.connect();
    half.write_all(b"POST /orders HTTP/1.1\r\nhost: desk\r\ncontent-length: 99\r\n\r\n{\"item\"")
        .expect("sent");
    drop(half);
    assert_eq!(desk.post("/echo", "text/plain", b"alive").0, 200);
}

#[test]
fn sigterm_drains_everything_reports_and_exits_with_0() {
    let desk = Desk::open();
    assert_eq!(desk.order(r#"{"item":"lamp","quantity":1}"#).0, 200);
    desk.program.signal(Signal::TERM);
    let (status, lines) = desk.program.end();
    assert_eq!(status.code(), Some(0));
    let started = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let order: Vec<_> = [
        "http: ",
        "echo: ",
        "orders: ",
        "pricing: ",
        "stock: ",
        "audit: ",
    ]
    .map(started)
    .into_iter()
    .collect();
    assert_eq!(order, (0..6).map(Some).collect::<Vec<_>>(), "{lines:?}");
    assert!(
        lines[0].contains("served=1") && lines[0].contains("cut=0"),
        "{lines:?}"
    );
    assert!(lines[5].contains("handled=1"), "{lines:?}");
}

#[test]
fn a_request_under_way_is_finished_after_sigterm() {
    let desk = Desk::open();
    let open = desk.program.connect();
    let mut under_way = desk.begin_echo(5);
    desk.program.signal(Signal::TERM);
    let asked = Desk::wait_until_it_drains(open);
    under_way.write_all(b"hello").expect("sent");
    let mut answer = String::new();
    under_way.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.ends_with(r#"{"message":"hello","status":"Ok"}"#),
        "{answer}"
    );
    let (status, lines) = desk.program.end();
    assert_eq!(status.code(), Some(0));
    let served = format!(" served={} refused=1 ", asked + 1);
    assert!(
        lines[0].contains(&served) && lines[0].contains("cut=0"),
        "{lines:?}"
    );
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let desk = Desk::open();
    let open = desk.program.connect();
    let never_complete = desk.begin_echo(5);
    desk.program.signal(Signal::TERM);
    Desk::wait_until_it_drains(open);
    desk.program.signal(Signal::INT);
    let (status, lines) = desk.program.end();
    assert_eq!(status.code(), Some(0));
    assert!(lines[0].contains("cut=1"), "{lines:?}");
    drop(never_complete);
}

#[test]
fn a_reader_that_leaves_does_not_keep_it_from_draining() {
    let desk = Desk::open_for(1);
    assert_eq!(desk.post("/echo", "text/plain", b"alive").0, 200);
    desk.program.signal(Signal::TERM);
    assert_eq!(desk.program.end().0.code(), Some(0));
}

#[test]
fn ctrl_c_exits_with_0_too() {
    let desk = Desk::open();
    desk.program.signal(Signal::INT);
    assert_eq!(desk.program.end().0.code(), Some(0));
}

#[test]
fn a_taken_port_is_an_error_in_words() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let (status, said) = said(&["--listen", &address]);
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains(&format!(
            "cannot listen on {address}: Address already in use"
        )),
        "{said}"
    );
    assert!(said.contains("--listen 127.0.0.1:0"), "{said}");
}

#[test]
fn arguments_it_does_not_know_are_an_error_in_words() {
    for arguments in [
        &["--port", "1"][..],
        &["--listen"],
        &["--listen", "nowhere"],
    ] {
        let (status, said) = said(arguments);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("quickstart: ") && !said.contains("panicked"),
            "{said}"
        );
    }
}

fn quickstart(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(arguments);
    command
}

/// How a run that does not get far ends, and what it says about it.
fn said(arguments: &[&str]) -> (ExitStatus, String) {
    let output = quickstart(arguments).output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    (output.status, said)
}

/// Between two looks at a state that says nothing by itself.
const PAUSE: Duration = Duration::from_millis(5);
