//! Durations as people write them: `"250ms"`, `"30s"`.

use std::time::Duration;

use syn::{Attribute, Lit};

/// Reads a duration above zero.
pub(crate) fn read(literal: &Lit) -> syn::Result<Duration> {
    let parsed = match literal {
        Lit::Str(text) => parse(&text.value()),
        _ => None,
    };
    parsed.ok_or_else(|| {
        syn::Error::new_spanned(
            literal,
            "a duration is a whole number above zero and a unit, one of `us`, `ms`, `s`, `m`, `h`: \
             write \"250ms\" or \"30s\"",
        )
    })
}

/// What to say about an attribute that should hold one and does not.
pub(crate) fn missing(attribute: &Attribute, example: &str) -> syn::Error {
    let text = format!("how often? Write `{example}`");
    syn::Error::new_spanned(attribute, text)
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(parse("250us"), Some(Duration::from_micros(250)));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3_600)));
    }

    #[test]
    fn what_is_no_duration_above_zero_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "30 s",
            "1d",
            "99999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
