//! The command line, and what can go wrong before anything runs.

use std::{error::Error, io, process::ExitCode};

use spark_http::{BindError, ConfigError};

pub(crate) const USAGE: &str = "\
usage: quickstart [--listen ADDRESS]

  --listen ADDRESS   where to listen, 127.0.0.1:8080 unless told otherwise;
                     port 0 takes any that is free";

pub(crate) struct Options {
    pub(crate) listen: String,
}

/// Why the order desk did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("unknown argument {0:?}\n{USAGE}")]
    UnknownArgument(String),
    #[error("--listen needs an address\n{USAGE}")]
    NoAddress,
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("invalid routes")]
    Routes(#[from] ConfigError),
}

// === impl Options ===

impl Options {
    /// `None` if the user asked for help.
    pub(crate) fn parse(
        arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Self>, StartError> {
        let mut options = Self {
            listen: "127.0.0.1:8080".to_owned(),
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--listen" => {
                    options.listen = arguments.next().ok_or(StartError::NoAddress)?;
                }
                _ => return Err(StartError::UnknownArgument(argument)),
            }
        }
        Ok(Some(options))
    }
}

// === impl StartError ===

impl StartError {
    /// Says it to a human, causes and way out included.
    pub(crate) fn report(&self) -> ExitCode {
        eprint!("quickstart: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
        if matches!(self, Self::Bind(error) if error.is_address_in_use()) {
            eprintln!("something listens there already; `--listen 127.0.0.1:0` takes a free port");
        }
        ExitCode::FAILURE
    }
}
