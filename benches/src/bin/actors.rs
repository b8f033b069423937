//! Compares Spark with a hand-written tokio loop and with other actor crates.
//!
//! ```text
//! cargo run --release -p benches --bin actors
//! cargo run --release -p benches --bin actors -- --only spark --case ask1,tell1 --threads 1
//! cargo run --release -p benches --bin actors -- --only request-all,deadlock-check
//! cargo run --release -p benches --bin actors -- --json > actors.json
//! ```
//!
//! `--help` lists the flags, `--list` the names of contenders and comparisons. A full run takes
//! two to three minutes. What is measured, and how, is in `benches::actors`.
//!
//! With `--profile bench` in place of `--release` everything is built with thin LTO and in one
//! codegen unit. The baseline gains more from that than others do, so name the profile with the
//! figures.

use std::{env, process::ExitCode};

use benches::{
    UsageError,
    actors::{
        counting_allocator::CountingAllocator,
        options::{Asked, Options},
        report, rounds,
    },
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Asked::Measure(options)) => options,
        Ok(Asked::Help) => {
            print!("{}", Options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Asked::List) => {
            print!("{}", Options::list());
            return ExitCode::SUCCESS;
        }
        Err(UsageError(problem)) => {
            eprintln!("actors: {problem}\n\n{}", Options::HELP);
            return ExitCode::FAILURE;
        }
    };

    let progress = |next: &str| eprintln!("measuring {next}");
    let cells = rounds::measure(&options, progress);
    let compared = rounds::compare(&options, progress);
    if options.json {
        println!("{:#}", report::json(&options, &cells, &compared));
    } else {
        print!("{}", report::markdown(&options, &cells, &compared));
    }
    ExitCode::SUCCESS
}
