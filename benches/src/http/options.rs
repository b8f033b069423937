//! The flags of the program.

use std::{path::PathBuf, time::Duration};

use super::contender::Contender;
use crate::flags::{Flags, UsageError};

/// What to measure, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who takes part, the one to compare with first.
    pub contenders: Vec<Contender>,
    /// How many rounds there are.
    pub rounds: u32,
    /// How long one contender's slice of a round is.
    pub slice: Duration,
    /// How often a turn is taken again in which another program had one of the cores.
    pub retries: u32,
    /// How many connections the load comes on.
    pub connections: usize,
    /// How many connections are idle when memory is measured.
    pub idle_connections: usize,
    /// How many names that do not exist are asked for.
    pub unknown_names: u32,
    /// The program that serves with `manager_handlers`.
    pub manager_handlers: Option<PathBuf>,
    /// Whether that program writes its access log.
    pub access_log: bool,
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

// === impl Options ===

impl Options {
    /// The flags and their defaults.
    pub const HELP: &'static str = "\
Compares a route to a module with the same closure in axum, and with manager_handlers.

  --rounds N               rounds per measurement (300); 3 at most for memory
  --slice-ms N             milliseconds per contender and round (40)
  --retries N              how often a turn is taken again in which another program had one of the two
                           cores (20)
  --connections N          connections under load (64)
  --only NAME[,..]         these contenders, and axum: spark spark-fn spark-key
  --manager-handlers FILE  the program of benches/manager-handlers; without it, its rows are missing
  --access-log             leaves the access log of manager_handlers on, which none of the others has
  --json                   JSON instead of Markdown
  --quick                  everything, but too briefly to mean anything (for tests)

The table has a row for each figure: its median, its ratio to another's in the same rounds, how
well both are known (half the 95 % confidence interval), what is asked of the ratio, or of the figure
if there is none, and whether that is reached. The server has one core and the load another, which it
never leaves idle: measure while nothing else runs.
";

    /// Reads the flags.
    ///
    /// # Errors
    ///
    /// For an unknown flag or value.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, UsageError> {
        let mut options = Self::default();
        let mut flags = Flags::new(arguments);
        while let Some(flag) = flags.next() {
            match flag.as_str() {
                "--rounds" => options.rounds = flags.positive(&flag)?,
                "--slice-ms" => {
                    let milliseconds = flags.positive(&flag)?;
                    options.slice = Duration::from_millis(milliseconds.into());
                }
                "--retries" => options.retries = flags.positive(&flag)?,
                "--connections" => options.connections = flags.positive(&flag)? as usize,
                "--only" => options.contenders = chosen(&flags.value(&flag)?)?,
                "--manager-handlers" => options.manager_handlers = Some(flags.value(&flag)?.into()),
                "--access-log" => options.access_log = true,
                "--json" => options.json = true,
                "--quick" => {
                    options.rounds = 2;
                    options.slice = Duration::from_millis(20);
                    options.retries = 1;
                    options.connections = 4;
                    options.idle_connections = 20;
                    options.unknown_names = 100;
                }
                "--serve" => return own(&flags.value(&flag)?).map(Asked::Serve),
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(UsageError::unknown(&flag)),
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
            rounds: 300,
            slice: Duration::from_millis(40),
            retries: 20,
            connections: 64,
            idle_connections: 500,
            unknown_names: 10_000,
            manager_handlers: None,
            access_log: false,
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
        use Contender::{Axum, ManagerHandlers, Spark, SparkFn, SparkKey};
        assert_eq!(contenders(""), [Axum, Spark, SparkFn, SparkKey]);
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
