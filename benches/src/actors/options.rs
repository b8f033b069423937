//! The flags of the program.

use std::{iter, time::Duration};

use super::{
    case::{Case, Counted},
    comparison::{self, Comparison},
    contender::Threads,
    entrant::{self, Entrant},
};
use crate::flags::{Flags, UsageError};

/// What to measure, and for how long.
#[derive(Debug)]
pub struct Options {
    /// Who has a row in the tables. The baseline is the first, unless there are none.
    pub contenders: Vec<Entrant>,
    /// Which columns. None if there are no contenders.
    pub cases: Vec<Case>,
    /// Which comparisons.
    pub comparisons: Vec<Comparison>,
    /// On how many threads.
    pub threads: Vec<Threads>,
    /// How many rounds a timed case has.
    pub rounds: u32,
    /// How long one contender's slice of a round is.
    pub slice: Duration,
    /// Whether to print JSON rather than Markdown.
    pub json: bool,
    quick: bool,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Asked {
    /// To measure.
    Measure(Options),
    /// [`Options::HELP`].
    Help,
    /// [`Options::list`].
    List,
}

/// What `--only` can name.
#[derive(Debug, Clone, Copy)]
enum Row {
    Contender(Entrant),
    Comparison(Comparison),
}

// === impl Options ===

impl Options {
    /// What `--help` prints.
    pub const HELP: &'static str = "\
Compares Spark with a hand-written tokio loop and with other actor crates.

  --rounds N            rounds per timed case (15)
  --slice-ms N          milliseconds per contender and round (40)
  --only NAME[,..]      these contenders, and the baseline; or these comparisons
  --case NAME[,..]      these columns, and no comparison that --only does not name:
                        ask1 ask64 ask1024 tell1 tell4 spawn memory allocations-ask allocations-tell
  --threads 1|2|both    on how many threads (both)
  --list                the names that --only knows
  --json                JSON instead of Markdown
  --quick               everything, but too briefly to mean anything (for tests)
";

    /// What `--list` prints.
    pub fn list() -> String {
        let contenders = entrant::ALL
            .iter()
            .map(|entrant| format!("  {:<30}{}\n", entrant.name, entrant.about));
        let comparisons = comparison::ALL.iter().map(|comparison| {
            let (subject, reference) = (comparison.subject, comparison.reference);
            format!("  {:<30}{subject} against {reference}\n", comparison.name)
        });
        iter::once("contenders:\n".to_owned())
            .chain(contenders)
            .chain(iter::once("comparisons:\n".to_owned()))
            .chain(comparisons)
            .collect()
    }

    /// Reads flags.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the first flag that is.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Asked, UsageError> {
        let mut options = Self::default();
        let mut rows = None;
        let mut columns = None;
        let mut flags = Flags::new(arguments);
        while let Some(flag) = flags.next() {
            match flag.as_str() {
                "--rounds" => options.rounds = flags.positive(&flag)?,
                "--slice-ms" => {
                    let milliseconds = flags.positive(&flag)?;
                    options.slice = Duration::from_millis(milliseconds.into());
                }
                "--only" => rows = Some(Row::choose(&flag, &flags.value(&flag)?)?),
                "--case" => {
                    let names = flags.value(&flag)?;
                    columns = Some(choose(&flag, &names, &Case::ALL, Case::to_string)?);
                }
                "--threads" => options.threads = threads(&flag, &flags.value(&flag)?)?,
                "--json" => options.json = true,
                "--quick" => {
                    options.quick = true;
                    options.rounds = 2;
                    options.slice = Duration::from_millis(1);
                }
                "--list" => return Ok(Asked::List),
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(UsageError::unknown(&flag)),
            }
        }
        options.select(rows, columns);
        Ok(Asked::Measure(options))
    }

    /// Keeps what `--only` and `--case` named.
    fn select(&mut self, rows: Option<Vec<Row>>, columns: Option<Vec<Case>>) {
        if let Some(rows) = rows {
            self.contenders.clear();
            self.comparisons.clear();
            for row in rows {
                match row {
                    Row::Contender(entrant) => self.contenders.push(entrant),
                    Row::Comparison(comparison) => self.comparisons.push(comparison),
                }
            }
            // Ratios need the baseline.
            if let Some(first) = self.contenders.first()
                && first.name != entrant::ALL[0].name
            {
                self.contenders.insert(0, entrant::ALL[0]);
            }
        } else if columns.is_some() {
            self.comparisons.clear();
        }
        if self.contenders.is_empty() {
            self.cases.clear();
        } else if let Some(columns) = columns {
            self.cases = columns;
        }
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
            contenders: entrant::ALL.to_vec(),
            cases: Case::ALL.to_vec(),
            comparisons: comparison::ALL.to_vec(),
            threads: Threads::ALL.to_vec(),
            rounds: 15,
            slice: Duration::from_millis(40),
            json: false,
            quick: false,
        }
    }
}

// === impl Row ===

impl Row {
    fn choose(flag: &str, value: &str) -> Result<Vec<Self>, UsageError> {
        let contenders = entrant::ALL.iter().copied().map(Self::Contender);
        let comparisons = comparison::ALL.iter().copied().map(Self::Comparison);
        let all: Vec<Self> = contenders.chain(comparisons).collect();
        choose(flag, value, &all, |row| row.name().to_owned())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Contender(entrant) => entrant.name,
            Self::Comparison(comparison) => comparison.name,
        }
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
        match Options::parse(line.split_whitespace().map(str::to_owned))? {
            Asked::Measure(options) => Ok(options),
            other => panic!("{line} asks for {other:?}"),
        }
    }

    fn contenders(options: &Options) -> Vec<&str> {
        options.contenders.iter().map(|c| c.name).collect()
    }

    fn comparisons(options: &Options) -> Vec<&str> {
        options.comparisons.iter().map(|c| c.name).collect()
    }

    #[test]
    fn without_flags_everything_is_measured() {
        let options = parse("").unwrap();

        assert_eq!(options.contenders.len(), entrant::ALL.len());
        assert_eq!(options.cases, Case::ALL);
        assert_eq!(options.comparisons.len(), comparison::ALL.len());
        assert_eq!(options.threads, Threads::ALL);
    }

    #[test]
    fn the_baseline_always_takes_part_and_comes_first() {
        for line in ["--only kameo", "--only kameo,baseline,kameo"] {
            let options = parse(line).unwrap();

            assert_eq!(contenders(&options), ["baseline", "kameo"]);
            assert_eq!(comparisons(&options), [""; 0]);
        }
    }

    #[test]
    fn comparisons_alone_leave_the_tables_empty() {
        let options = parse("--only request-all,direct-ask --case ask1").unwrap();

        assert_eq!(contenders(&options), [""; 0]);
        assert_eq!(options.cases, []);
        assert_eq!(comparisons(&options), ["direct-ask", "request-all"]);
    }

    #[test]
    fn comparisons_are_left_out_when_only_columns_are_named() {
        let options = parse("--case ask1").unwrap();

        assert_eq!(options.contenders.len(), entrant::ALL.len());
        assert_eq!(comparisons(&options), [""; 0]);
    }

    #[test]
    fn no_two_rows_share_a_name() {
        let mut names: Vec<_> = entrant::ALL.map(|entrant| entrant.name).to_vec();
        names.extend(comparison::ALL.map(|comparison| comparison.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), count);
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
