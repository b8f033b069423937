//! The program itself, from its first order to its report.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

/// The running program. Killed when dropped, so that no test leaves one behind.
struct Program(Child);

// === impl Program ===

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_crash_is_one_callers_error_and_the_shop_closes_within_its_deadline() {
    let program = Command::new(env!("CARGO_BIN_EXE_supervised-system"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut program = Program(program);
    let mut out = program.0.stdout.take().expect("piped");
    // A pipe cannot be read with a time limit; a channel can.
    let (sender, told) = sync_channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = out.read_to_string(&mut text);
        let _ = sender.send(read.map(|_| text));
    });

    let text = told.recv_timeout(LIMIT).expect("it ends in time");

    let text = text.expect("text");
    assert_eq!(text, STORY);
    assert!(program.0.wait().expect("it has ended").success());
}

const STORY: &str = "\
sale 1: 2 × lamp, 10 left, enough for 5 more
sale 2: 3 × lamp, 7 left, enough for 2 more
an order of none: handler panicked
restarts of the stock: 1
sale 3: 1 × lamp, 6 left, enough for 6 more
sale 4: 4 × lamp, 2 left, enough for 0 more
one more: only 2 of lamp left
in time: false
sales: Requested(Drain), restarts=1
printer: handled=2 failed=0 panicked=0 interrupted=1 undelivered=1
ledger: handled=6 failed=0 panicked=0 interrupted=0 undelivered=0
stock: handled=5 failed=1 panicked=1 interrupted=0 undelivered=0
orders: handled=6 failed=2 panicked=0 interrupted=0 undelivered=0
";

/// Finds what hangs. The program itself takes less than a second.
const LIMIT: Duration = Duration::from_secs(60);
