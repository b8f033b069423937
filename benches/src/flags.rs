//! A command line, word by word.

use std::vec;

/// The words that are still to be read.
#[derive(Debug)]
pub(crate) struct Flags {
    words: vec::IntoIter<String>,
}

/// A flag that could not be understood, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

// === impl Flags ===

impl Flags {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        let words: Vec<String> = words.into_iter().collect();
        Self {
            words: words.into_iter(),
        }
    }

    /// The value of `flag`, which is the next word.
    pub(crate) fn value(&mut self, flag: &str) -> Result<String, UsageError> {
        let missing = || UsageError(format!("{flag} needs a value"));
        self.words.next().ok_or_else(missing)
    }

    /// The value of `flag` as a number.
    pub(crate) fn positive(&mut self, flag: &str) -> Result<u32, UsageError> {
        let value = self.value(flag)?;
        match value.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(UsageError(format!(
                "{flag} needs a positive number, not {value}"
            ))),
        }
    }
}

impl Iterator for Flags {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.words.next()
    }
}

// === impl UsageError ===

impl UsageError {
    pub(crate) fn unknown(flag: &str) -> Self {
        Self(format!("unknown flag {flag}"))
    }
}
