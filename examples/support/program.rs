//! An example's program as its tests from outside run it. Not a crate: they take it in with `#[path]`.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use rustix::process::{Pid, kill_process};

pub(crate) use rustix::process::Signal;

/// A program that runs and listens. Killed when dropped, so that no test leaves one behind.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    address: String,
}

// === impl Program ===

impl Program {
    /// Starts it, and reads what it prints until it says where it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_for(command, usize::MAX)
    }

    /// As `start`, with a reader of what it prints that leaves after so many lines.
    pub(crate) fn start_for(command: &mut Command, lines_max: usize) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        // A pipe cannot be read with a time limit; a channel can.
        let (sender, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok).take(lines_max) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut program = Self {
            child,
            lines,
            address: String::new(),
        };
        while program.address.is_empty() {
            let line = program.line().expect("an address");
            if let Some(address) = line.strip_prefix("listening on ") {
                let address = address.trim_start_matches("http://");
                address.clone_into(&mut program.address);
            }
        }
        program
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A connection to it, which waits for at most [`LIMIT`] whenever it is read.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// The next line it prints; `None` once it has closed its output.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {LIMIT:?}"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("an id");
        kill_process(Pid::from_raw(id).expect("not zero"), signal).expect("it runs");
    }

    /// Waits until it ends. Returns how it did, and the lines it printed that were not asked for.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let lines = std::iter::from_fn(|| self.line()).collect();
        (self.child.wait().expect("it ran"), lines)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Does nothing to a program that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds what hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
