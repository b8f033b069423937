//! What is asked of a figure.

use std::fmt;

use crate::statistics::Summary;

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Less is too little.
    AtLeast(f64),
    /// More is too much.
    AtMost(f64),
}

/// Whether a figure keeps to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does, for sure.
    Reached,
    /// It does not, for sure.
    Missed,
    /// The median does, and its confidence interval holds the limit.
    JustReached,
    /// The median does not, and its confidence interval holds the limit.
    JustMissed,
}

// === impl Target ===

impl Target {
    /// Judges by the median.
    pub fn judge(self, figure: Summary) -> Verdict {
        let (limit, reached) = match self {
            Self::AtLeast(limit) => (limit, figure.median >= limit),
            Self::AtMost(limit) => (limit, figure.median <= limit),
        };
        let clear = (figure.median - limit).abs() > figure.spread();
        match (reached, clear) {
            (true, true) => Verdict::Reached,
            (true, false) => Verdict::JustReached,
            (false, false) => Verdict::JustMissed,
            (false, true) => Verdict::Missed,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the median keeps to the limit.
    pub fn is_reached(self) -> bool {
        matches!(self, Self::Reached | Self::JustReached)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reached => "yes",
            Self::Missed => "no",
            Self::JustReached => "yes, not for sure",
            Self::JustMissed => "no, not for sure",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_within_the_interval_is_said_to_be() {
        let figure = Summary {
            median: 1.0,
            lower: 0.9,
            upper: 1.1,
        };

        assert_eq!(Target::AtLeast(0.8).judge(figure), Verdict::Reached);
        assert_eq!(Target::AtLeast(0.95).judge(figure), Verdict::JustReached);
        assert_eq!(Target::AtMost(0.95).judge(figure), Verdict::JustMissed);
        assert_eq!(Target::AtMost(0.8).judge(figure), Verdict::Missed);
    }
}
