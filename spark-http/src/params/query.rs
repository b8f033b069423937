//! The query of a target: `application/x-www-form-urlencoded`, read strictly.

use std::borrow::Cow;

use super::deserialize::{Fault, Pair};
use crate::percent::{self, Invalid};

/// Splits a query into names and values, in order.
///
/// As the URL standard has it (`&` between pairs, the first `=` of a pair divides it, `+` is a
/// space), but for what it guesses at: a `%` that begins no escape, and bytes that are no UTF-8,
/// are faults. Empty pairs are skipped.
pub(super) fn parse(query: &str) -> Result<Vec<Pair<'_>>, Fault> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).map_err(|reason| Fault::new(format!("a name is {reason}")))?;
        let value = decode(value).map_err(|reason| Fault::at(&name, reason))?;
        Ok((name, value))
    });
    pairs.collect()
}

fn decode(text: &str) -> Result<Cow<'_, str>, &'static str> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let decoded = percent::decode(text, |decoded, byte, is_escaped| match (byte, is_escaped) {
        (b'+', false) => decoded.push(b' '),
        (byte, _) => decoded.push(byte),
    });
    match decoded {
        Ok(decoded) => Ok(Cow::Owned(decoded)),
        Err(Invalid::Escape) => Err("not percent-encoded"),
        Err(Invalid::Utf8) => Err("not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(query: &str) -> Option<Vec<(String, String)>> {
        let pairs = parse(query).ok()?;
        let owned = pairs.into_iter();
        Some(
            owned
                .map(|(n, v)| (n.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    #[test]
    fn pairs_are_split_and_decoded_once() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parsed(""), Some(vec![]));
        assert_eq!(
            parsed("a=1&&b&c=x=y&d=1+2%2B%26&%C3%A9=%2525"),
            Some(vec![
                pair("a", "1"),
                pair("b", ""),
                pair("c", "x=y"),
                pair("d", "1 2+&"),
                pair("é", "%25"),
            ])
        );
    }

    #[test]
    fn what_is_not_percent_encoded_utf_8_is_refused() {
        for query in ["a=%", "a=%4", "a=%+1", "%zz=1", "a=%ff", "a=1&b=%e2%82"] {
            assert_eq!(parsed(query), None, "{query}");
        }
    }

    /// The most defensive encoding: every byte escaped.
    fn escaped(text: &str) -> String {
        let bytes = text.bytes().map(|byte| format!("%{byte:02x}"));
        bytes.collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(pairs in proptest::collection::vec((".*", ".*"), 0..6)) {
            let query: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
                .collect();
            prop_assert_eq!(parsed(&query.join("&")), Some(pairs));
        }

        #[test]
        fn any_text_is_read_or_refused(query in ".*") {
            let _ = parse(&query);
        }
    }
}
