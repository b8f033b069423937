//! The flags of the program.

use std::time::Duration;

use super::{
    case::{Case, Counted},
    contender::Threads,
    rounds::Entrant,
};

/// What to measure, and for how long.
#[derive(Debug)]
pub struct Options {
    /// Who takes part. The baseline is always the first.
    pub contenders: Vec<Entrant>,
    /// Which cases.
    pub cases: Vec<Case>,
    /// On how many threads the timed cases run.
    pub threads: Vec<Threads>,
    /// How many rounds a timed case has.
    pub rounds: u32,
    /// How long one contender's slice of a round is.
    pub slice: Duration,
    /// Whether to print JSON rather than Markdown.
    pub json: bool,
    quick: bool,
}

/// A flag that could not be understood, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

// === impl Options ===

impl Options {
    /// What `--help` prints.
    pub const HELP: &'static str = "\
Compares Spark with a hand-written tokio loop and with other actor crates.

  --rounds N            rounds per timed case (15)
  --slice-ms N          milliseconds per contender and round (40)
  --only NAME[,..]      these contenders, and the baseline
  --case NAME[,..]      ask1 ask64 ask1024 tell1 tell4 spawn memory allocations-ask allocations-tell
  --threads 1|2|both    threads of the timed cases (both); the others run on one
  --json                JSON instead of Markdown
  --quick               every cell, but too briefly to mean anything (for tests)
";

    /// Reads flags. `None` means that help was asked for.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the first flag that is.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Option<Self>, UsageError> {
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
                    let milliseconds = positive(&flag, &value()?)?;
                    options.slice = Duration::from_millis(milliseconds.into());
                }
                "--only" => {
                    // Ratios need the baseline.
                    let named = format!("{},{}", Entrant::ALL[0].name, value()?);
                    options.contenders = choose(&flag, &named, &Entrant::ALL, |entrant| {
                        entrant.name.to_owned()
                    })?;
                }
                "--case" => options.cases = choose(&flag, &value()?, &Case::ALL, Case::to_string)?,
                "--threads" => options.threads = threads(&flag, &value()?)?,
                "--json" => options.json = true,
                "--quick" => {
                    options.quick = true;
                    options.rounds = 2;
                    options.slice = Duration::from_millis(1);
                }
                "--help" | "-h" => return Ok(None),
                _ => return Err(UsageError(format!("unknown flag {flag}"))),
            }
        }
        Ok(Some(options))
    }

    /// Returns over how many operations a counted case counts.
    pub fn operations(&self, case: Counted) -> u32 {
        match (case, self.quick) {
            (Counted::Memory, false) => 10_000,
            (Counted::Memory, true) => 100,
            // Enough that a block shared by 32 messages shows as what it is, a thirty-second.
            (_, false) => 65_536,
            (_, true) => 1024,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            contenders: Entrant::ALL.to_vec(),
            cases: Case::ALL.to_vec(),
            threads: Threads::ALL.to_vec(),
            rounds: 15,
            slice: Duration::from_millis(40),
            json: false,
            quick: false,
        }
    }
}

fn positive(flag: &str, value: &str) -> Result<u32, UsageError> {
    match value.parse() {
        Ok(0) | Err(_) => Err(UsageError(format!(
            "{flag} needs a positive number, not {value}"
        ))),
        Ok(number) => Ok(number),
    }
}

fn threads(flag: &str, value: &str) -> Result<Vec<Threads>, UsageError> {
    match value {
        "1" => Ok(vec![Threads::One]),
        "2" => Ok(vec![Threads::Two]),
        "both" => Ok(Threads::ALL.to_vec()),
        _ => Err(UsageError(format!("{flag} is 1, 2 or both, not {value}"))),
    }
}

/// Returns those of `all` that are listed in `value`, once each and in the order of `all`.
fn choose<T: Copy>(
    flag: &str,
    value: &str,
    all: &[T],
    name: impl Fn(&T) -> String,
) -> Result<Vec<T>, UsageError> {
    let listed: Vec<&str> = value.split(',').collect();
    let names: Vec<String> = all.iter().map(name).collect();
    if let Some(unknown) = listed
        .iter()
        .find(|&&item| !names.iter().any(|name| name == item))
    {
        return Err(UsageError(format!("{flag} knows no {unknown}")));
    }
    Ok(all
        .iter()
        .zip(&names)
        .filter(|(_, name)| listed.contains(&name.as_str()))
        .map(|(item, _)| *item)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, UsageError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
            .map(|options| options.expect("help was not asked for"))
    }

    #[test]
    fn without_flags_everything_is_measured() {
        let options = parse("").unwrap();

        assert_eq!(options.contenders.len(), Entrant::ALL.len());
        assert_eq!(options.cases, Case::ALL);
        assert_eq!(options.threads, Threads::ALL);
    }

    #[test]
    fn the_baseline_always_takes_part_and_comes_first() {
        for line in ["--only kameo", "--only kameo,baseline,kameo"] {
            let names: Vec<_> = parse(line)
                .unwrap()
                .contenders
                .iter()
                .map(|c| c.name)
                .collect();

            assert_eq!(names, ["baseline", "kameo"]);
        }
    }

    #[test]
    fn a_case_named_twice_is_measured_once_in_its_usual_place() {
        let options = parse("--case tell1,ask1,tell1").unwrap();

        let names: Vec<_> = options.cases.iter().map(Case::to_string).collect();
        assert_eq!(names, ["ask1", "tell1"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, problem) in [
            ("--rounds", "--rounds needs a value"),
            ("--rounds 0", "--rounds needs a positive number, not 0"),
            ("--only tokio", "--only knows no tokio"),
            ("--case ask1,ask2", "--case knows no ask2"),
            ("--threads 3", "--threads is 1, 2 or both, not 3"),
            ("--fast", "unknown flag --fast"),
        ] {
            assert_eq!(parse(line).unwrap_err(), UsageError(problem.to_owned()));
        }
    }
}
