//! Compares spark-state with a raw `DashMap`, `RwLock<HashMap>`, moka and scc.
//!
//! ```text
//! cargo run --release -p benches --bin state
//! cargo run --release -p benches --bin state -- --only spark,moka --threads 2
//! ```
//!
//! `--help` lists the flags. What is measured, and how, is in `benches::state`.

use std::{env, process::ExitCode};

use benches::state::{
    measure,
    options::{Asked, Options, UsageError},
    report,
};

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(Asked::Measure(options)) => options,
        Ok(Asked::Help) => {
            print!("{}", Options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(UsageError(problem)) => {
            eprintln!("state: {problem}\n\n{}", Options::HELP);
            return ExitCode::FAILURE;
        }
    };
    let cells = measure::measure(&options, |case| eprintln!("measuring {case}"));
    if options.json {
        println!("{:#}", report::json(&cells));
    } else {
        print!("{}", report::markdown(&options, &cells));
    }
    ExitCode::SUCCESS
}
