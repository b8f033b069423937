//! Compares a route to a module with the same closure in axum, and with `manager_handlers`.
//!
//! ```text
//! cargo run --release -p benches --bin http
//! cargo build --release --manifest-path benches/manager-handlers/Cargo.toml
//! cargo run --release -p benches --bin http -- \
//!     --manager-handlers benches/manager-handlers/target/release/manager-handlers-server
//! ```
//!
//! `--help` lists the flags. What is measured, and how, is in `benches::http`.

use std::{env, error::Error, process::ExitCode};

use benches::{
    UsageError,
    http::{
        measure,
        options::{Asked, Options},
        report,
    },
};

fn main() -> ExitCode {
    let outcome = match Options::parse(env::args().skip(1)) {
        Ok(Asked::Measure(options)) => run(&options),
        Ok(Asked::Serve(contender)) => contender.serve(),
        Ok(Asked::Help) => {
            print!("{}", Options::HELP);
            Ok(())
        }
        Err(UsageError(problem)) => {
            eprintln!("http: {problem}\n\n{}", Options::HELP);
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let measured = measure::measure(options, |next| eprintln!("measuring {next}"))?;
    if options.json {
        println!("{:#}", report::json(&measured));
    } else {
        print!("{}", report::markdown(options, &measured));
    }
    Ok(())
}
