//! The flags of the program.

use super::contender::{self, Entrant};

/// What to measure, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who takes part, the one to compare with first.
    pub entrants: Vec<&'static Entrant>,
    /// With how many threads.
    pub threads: Vec<usize>,
    /// How many rounds there are.
    pub rounds: u32,
    /// How many operations a thread does in a slice.
    pub operations: usize,
    /// Whether to print JSON.
    pub json: bool,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Asked {
    /// To measure.
    Measure(Options),
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
Compares spark-state with a raw DashMap, RwLock<HashMap>, moka and scc.

  --rounds N       rounds per case (41)
  --operations N   operations per thread and slice (40000)
  --threads N[,..] with so many threads (1,2,4)
  --only NAME[,..] these contenders, and dashmap
  --json           JSON instead of Markdown
  --quick          everything, but too briefly to mean anything (for tests)
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
                "--operations" => options.operations = positive(&flag, &value()?)? as usize,
                "--threads" => {
                    let value = value()?;
                    let numbers = value.split(',').map(|number| positive(&flag, number));
                    let numbers = numbers.map(|number| number.map(|number| number as usize));
                    options.threads = numbers.collect::<Result<_, _>>()?;
                }
                "--only" => options.entrants = chosen(&value()?)?,
                "--json" => options.json = true,
                "--quick" => {
                    options.rounds = 2;
                    options.operations = 500;
                }
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(UsageError(format!("unknown flag {flag}"))),
            }
        }
        Ok(Asked::Measure(options))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            entrants: contender::ALL.iter().collect(),
            threads: vec![1, 2, 4],
            rounds: 41,
            operations: 40_000,
            json: false,
        }
    }
}

/// The contenders that are named, behind the one they are compared with.
fn chosen(names: &str) -> Result<Vec<&'static Entrant>, UsageError> {
    let mut entrants = vec![&contender::ALL[0]];
    for name in names.split(',') {
        let unknown = || UsageError(format!("there is no contender {name}"));
        let entrant = Entrant::named(name).ok_or_else(unknown)?;
        if entrants.iter().all(|other| other.name != entrant.name) {
            entrants.push(entrant);
        }
    }
    Ok(entrants)
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

    fn names(line: &str) -> Vec<&'static str> {
        match Options::parse(line.split_whitespace().map(str::to_owned)) {
            Ok(Asked::Measure(options)) => options.entrants.iter().map(|e| e.name).collect(),
            other => panic!("{line} asks for {other:?}"),
        }
    }

    #[test]
    fn dashmap_always_takes_part_and_comes_first() {
        assert_eq!(names("").len(), contender::ALL.len());
        assert_eq!(names("--only spark,dashmap,spark"), ["dashmap", "spark"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            "--rounds 0",
            "--only redis",
            "--threads 1,x",
            "--threads",
            "--fast",
        ] {
            let parsed = Options::parse(line.split_whitespace().map(str::to_owned));
            assert!(parsed.is_err(), "{line}");
        }
    }
}
