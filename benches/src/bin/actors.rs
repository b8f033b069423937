//! Compares Spark with a hand-written tokio loop and with other actor crates.
//!
//! ```text
//! cargo run --release -p benches --bin actors
//! cargo run --release -p benches --bin actors -- --only spark --case ask1,tell1 --threads 1
//! cargo run --release -p benches --bin actors -- --json > actors.json
//! ```
//!
//! `--help` lists the flags. A full run takes a little over a minute. What is measured, and how, is
//! in `benches::actors`.
//!
//! With `--profile bench` in place of `--release` everything is built with thin LTO and in one
//! codegen unit. The baseline gains more from that than others do, so name the profile with the
//! figures.

use std::{env, process::ExitCode};

use benches::actors::{
    counting_allocator::CountingAllocator,
    options::{Options, UsageError},
    report, rounds,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", Options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(UsageError(problem)) => {
            eprintln!("actors: {problem}\n\n{}", Options::HELP);
            return ExitCode::FAILURE;
        }
    };

    let cells = rounds::measure(&options, |next| eprintln!("measuring {next}"));
    if options.json {
        println!("{:#}", report::json(&options, &cells));
    } else {
        print!("{}", report::markdown(&options, &cells));
    }
    ExitCode::SUCCESS
}
