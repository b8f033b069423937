//! Keeps the last lines of what happened. Lines come as commands, readers as requests.

use std::{collections::VecDeque, fmt};

use spark_channel::{NativeHandler, SparkChannelError};

#[derive(Default)]
pub(crate) struct Audit {
    lines: VecDeque<String>,
}

/// The newest entries, newest last.
pub(crate) struct Entries(Vec<String>);

impl NativeHandler for Audit {
    type Message = String;
    type Response = Entries;
    type Error = SparkChannelError;

    /// Whatever is asked, as many lines as it ends with a number for, or all.
    async fn handle_request(&mut self, asked: String) -> Result<Entries, SparkChannelError> {
        let number = asked.split_whitespace().last();
        let wanted = number.and_then(|number| number.parse().ok());
        let skipped = wanted.map_or(0, |wanted| self.lines.len().saturating_sub(wanted));
        Ok(Entries(self.lines.iter().skip(skipped).cloned().collect()))
    }

    async fn handle_command(&mut self, line: String) -> Result<(), SparkChannelError> {
        // Bounded like every queue: the oldest line makes room.
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        Ok(())
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

const LINES_MAX: usize = 1_000;
