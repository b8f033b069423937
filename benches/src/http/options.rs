//! The flags of the program.

use std::{path::PathBuf, time::Duration};

use super::contender::Contender;

/// What to measure, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who takes part, the one to compare with first.
    pub contenders: Vec<Contender>,
    /// How many rounds there are.
    pub rounds: u32,
    /// How long one contender's slice of a round is.
    pub slice: Duration,
    /// How many connections the load comes on.
    pub connections: usize,
    /// How many connections are idle when memory is measured.
    pub idle_connections: usize,
    /// How many names that do not exist are asked for.
    pub unknown_names: u32,
    /// The program that serves with `manager_handlers`.
    pub manager_handlers: Option<PathBuf>,
    /// Whether to print JSON.
    pub json: bool,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Asked {
    /// To measure.
    Measure(Options),
    /// To serve, as the other end of a measurement.
    Serve(Contender),
    /// The list of flags.
    Help,
}

/// What is wrong with the flags.
#[derive(Debug)]
pub struct UsageError(pub String);

// === impl Options ===

impl Options {
    /// The flags and their defaults.
    pub const HELP: &'static str = "\
Compares a route to a module with the same closure in axum, and with manager_handlers.

  --rounds N               rounds per measurement (15)
  --slice-ms N             milliseconds per contender and round (400)
  --connections N          connections under load (64)
  --only NAME[,..]         these contenders, and axum: spark spark-fn
  --manager-handlers FILE  the program of benches/manager-handlers; without it, its row is missing
  --json                   JSON instead of Markdown
  --quick                  everything, but too briefly to mean anything (for tests)
";

    /// Reads the flags.
    ///
    /// # Errors
    ///
    /// For an unknown flag or value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, UsageError> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let mut value = || {
                let missing = || UsageError(format!("{flag} needs a value"));
                arguments.next().ok_or_else(missing)
            };
            match flag.as_str() {
                "--rounds" => options.rounds = positive(&flag, &value()?)?,
                "--slice-ms" => {
                    let milliseconds: u32 = positive(&flag, &value()?)?;
                    options.slice = Duration::from_millis(milliseconds.into());
                }
                "--connections" => options.connections = positive(&flag, &value()?)? as usize,
                "--only" => options.contenders = chosen(&value()?)?,
                "--manager-handlers" => options.manager_handlers = Some(value()?.into()),
                "--json" => options.json = true,
                "--quick" => {
                    options.rounds = 2;
                    options.slice = Duration::from_millis(20);
                    options.connections = 4;
                    options.idle_connections = 20;
                    options.unknown_names = 100;
                }
                "--serve" => return own(&value()?).map(Asked::Serve),
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(UsageError(format!("unknown flag {flag}"))),
            }
        }
        if options.manager_handlers.is_some() {
            options.contenders.push(Contender::ManagerHandlers);
        }
        Ok(Asked::Measure(options))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            contenders: Contender::OWN.to_vec(),
            rounds: 15,
            slice: Duration::from_millis(400),
            connections: 64,
            idle_connections: 500,
            unknown_names: 10_000,
            manager_handlers: None,
            json: false,
        }
    }
}

/// The contenders that are named, behind the one they are compared with.
fn chosen(names: &str) -> Result<Vec<Contender>, UsageError> {
    let mut contenders = vec![Contender::Axum];
    for name in names.split(',') {
        let contender = own(name)?;
        if !contenders.contains(&contender) {
            contenders.push(contender);
        }
    }
    Ok(contenders)
}

fn own(name: &str) -> Result<Contender, UsageError> {
    Contender::own(name).ok_or_else(|| UsageError(format!("there is no contender {name}")))
}

fn positive(flag: &str, value: &str) -> Result<u32, UsageError> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(UsageError(format!(
            "{flag} takes a positive number, not {value}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contenders(line: &str) -> Vec<Contender> {
        match Options::parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Asked::Measure(options)) => options.contenders,
            other => panic!("{line} asks for {other:?}"),
        }
    }

    #[test]
    fn axum_always_takes_part_and_comes_first() {
        use Contender::{Axum, ManagerHandlers, Spark, SparkFn};
        assert_eq!(contenders(""), [Axum, Spark, SparkFn]);
        assert_eq!(contenders("--only spark,axum,spark"), [Axum, Spark]);
        let all = contenders("--only spark-fn --manager-handlers program");
        assert_eq!(all, [Axum, SparkFn, ManagerHandlers]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in ["--rounds 0", "--only nginx", "--rounds", "--fast"] {
            let parsed = Options::parse(line.split_whitespace().map(str::to_owned));
            assert!(parsed.is_err(), "{line}");
        }
    }
}
