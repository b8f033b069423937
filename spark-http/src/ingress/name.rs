//! Route names: what may be one, and how one is read from a path.

use std::borrow::Cow;

/// Why `name` cannot be a route's name, if so.
pub(super) fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > NAME_BYTES_MAX {
        Some("is longer than 128 bytes")
    } else if name.contains('/') {
        Some("has a `/` in it, and a name is one segment of a path")
    } else if name.contains(char::is_control) {
        Some("has a control character in it")
    } else if name == "." || name == ".." {
        Some("would be removed from the path by clients")
    } else {
        None
    }
}

/// Decodes a path segment, strictly: what is not percent-encoded UTF-8 is not guessed at.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, &'static str> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(digit), bytes.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("handler name has an invalid percent-encoding"),
            },
            plain => plain,
        });
    }
    match String::from_utf8(decoded) {
        Ok(name) => Ok(Cow::Owned(name)),
        Err(_) => Err("handler name is not UTF-8"),
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// More than anybody types, less than a log line.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_decoded_once() {
        assert_eq!(decode("plain"), Ok(Cow::Borrowed("plain")));
        assert_eq!(decode("%C3%a9t%C3%A9"), Ok("été".into()));
        assert_eq!(decode("100%2525"), Ok("100%25".into()));
    }

    #[test]
    fn what_is_not_percent_encoded_utf_8_is_refused() {
        for segment in ["%", "%4", "%zz", "a%+1", "%é"] {
            assert!(decode(segment).is_err(), "{segment}");
        }
        assert_eq!(decode("%ff%fe"), Err("handler name is not UTF-8"));
    }
}
