//! Paths: what may be registered, and how one is read from a request.
//!
//! Both are compared in one form, the *canonical* one: every segment is percent-decoded once, strictly,
//! but for `/` and `%`, which stay `%2F` and `%25`. So an encoded slash never separates segments, and two
//! paths are equal exactly if their decoded segments are.

use std::{borrow::Cow, sync::Arc};

use crate::percent::{self, Invalid};

/// A path as the matcher takes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// With `{parameter}`s, and literal braces doubled.
    pub(super) text: String,
    pub(super) parameters: Vec<Arc<str>>,
}

// === impl Pattern ===

impl Pattern {
    /// One segment, all of it literal.
    pub(super) fn of_name(name: &str) -> Result<Self, &'static str> {
        if name.contains('/') {
            return Err("has a `/` in it, and a name is one segment of a path");
        }
        let mut text = String::from("/");
        push_literal(name, &mut text)?;
        Ok(Self {
            text,
            parameters: Vec::new(),
        })
    }

    /// Segments in plain text, of which some are `{parameter}`s.
    pub(super) fn of_path(path: &str) -> Result<Self, &'static str> {
        let mut text = String::new();
        let mut parameters: Vec<Arc<str>> = Vec::new();
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            text.push('/');
            let inside = segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            match inside {
                Some(name) if parameters.iter().any(|taken| **taken == *name) => {
                    return Err("has two parameters of one name");
                }
                Some(name) if is_parameter(name) => {
                    text.push_str(segment);
                    parameters.push(name.into());
                }
                None if !segment.contains(['{', '}']) => push_literal(segment, &mut text)?,
                _ => {
                    return Err(
                        "has a brace that is not around a segment of letters, digits and _",
                    );
                }
            }
        }
        Ok(Self { text, parameters })
    }
}

/// The canonical form of a request's path.
pub(super) fn canonical(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = percent::decode(path, |decoded, byte, is_escaped| match (byte, is_escaped) {
        (b'/', true) => decoded.extend_from_slice(b"%2F"),
        (b'%', true) => decoded.extend_from_slice(b"%25"),
        (byte, _) => decoded.push(byte),
    });
    match decoded {
        Ok(decoded) => Ok(Cow::Owned(decoded)),
        Err(Invalid::Escape) => Err("path has an invalid percent-encoding"),
        Err(Invalid::Utf8) => Err("path is not UTF-8"),
    }
}

/// The plain text of a part of a canonical path.
pub(super) fn plain(canonical: &str) -> Box<str> {
    let plain = percent::decode(canonical, |decoded, byte, _| decoded.push(byte));
    // A canonical path has two escapes, both of which are UTF-8.
    plain.unwrap_or_default().into()
}

/// A pattern's path as a client writes it, with its parameters in braces.
#[cfg(feature = "openapi")]
pub(super) fn template(pattern: &str) -> String {
    use std::fmt::Write as _;

    let mut template = String::new();
    // Braces of a name are doubled in a pattern, and escapes are where they have to be.
    for part in pattern.replace("{{", "%7B").replace("}}", "%7D").bytes() {
        match part {
            b'/' | b'%' | b'{' | b'}' | b'-' | b'.' | b'_' | b'~' => template.push(part.into()),
            _ if part.is_ascii_alphanumeric() => template.push(part.into()),
            _ => {
                let _ = write!(template, "%{part:02X}");
            }
        }
    }
    template
}

/// Whether clients, and file systems, would read a segment of `path` as "here" or "one up".
pub(super) fn has_dots(path: &str) -> bool {
    path.contains("/.") && path.split('/').any(is_dots)
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= SEGMENT_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn push_literal(segment: &str, text: &mut String) -> Result<(), &'static str> {
    if let Some(reason) = fault(segment) {
        return Err(reason);
    }
    for char in segment.chars() {
        match char {
            '{' => text.push_str("{{"),
            '}' => text.push_str("}}"),
            '%' => text.push_str("%25"),
            char => text.push(char),
        }
    }
    Ok(())
}

/// Why `segment` cannot be a segment of a route's path, if so.
fn fault(segment: &str) -> Option<&'static str> {
    if segment.is_empty() {
        Some("is empty, or has an empty segment")
    } else if segment.len() > SEGMENT_BYTES_MAX {
        Some("is longer than 128 bytes")
    } else if segment.contains(char::is_control) {
        Some("has a control character in it")
    } else if is_dots(segment) {
        Some("would be removed from the path by clients")
    } else {
        None
    }
}

/// More than anybody types, less than a log line.
const SEGMENT_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_segment_is_decoded_once_and_stays_one_segment() {
        assert_eq!(canonical("/plain"), Ok(Cow::Borrowed("/plain")));
        assert_eq!(canonical("/%C3%a9t%C3%A9"), Ok("/été".into()));
        assert_eq!(canonical("/100%2525"), Ok("/100%2525".into()));
        assert_eq!(canonical("/a%2fb/%2e"), Ok("/a%2Fb/.".into()));
        assert_eq!(&*plain("a%2Fb%2525"), "a/b%25");
    }

    #[test]
    fn what_is_not_percent_encoded_utf_8_is_refused() {
        for path in ["/%", "/%4", "/%zz", "/a%+1", "/%é"] {
            assert!(canonical(path).is_err(), "{path}");
        }
        assert_eq!(canonical("/%ff%fe"), Err("path is not UTF-8"));
    }

    proptest! {
        #[test]
        fn decoded_segments_come_out_as_they_went_in(
            segments in vec((".{0,6}", vec(any::<bool>(), 24)), 1..5),
        ) {
            let encode = |(byte, is_encoded): (u8, &bool)| {
                if *is_encoded || b"/%".contains(&byte) || !byte.is_ascii() {
                    format!("%{byte:02x}")
                } else {
                    char::from(byte).to_string()
                }
            };
            let path: Vec<String> = segments
                .iter()
                .map(|(segment, encoded)| segment.bytes().zip(encoded).map(encode).collect())
                .collect();
            let path = format!("/{}", path.join("/"));
            let canonical = canonical(&path).expect("valid");
            let decoded: Vec<_> = canonical.split('/').skip(1).map(plain).collect();
            let segments: Vec<_> = segments.iter().map(|(segment, _)| segment.as_str().into()).collect();
            prop_assert_eq!(decoded, segments);
        }
    }

    #[test]
    fn a_name_is_literal_and_a_path_has_parameters() {
        let name = Pattern::of_name("{a} 100%").expect("valid");
        assert_eq!(name.text, "/{{a}} 100%25");
        let path = Pattern::of_path("/orders/{id}/items/{n}").expect("valid");
        assert_eq!(path.text, "/orders/{id}/items/{n}");
        assert_eq!(path.parameters, ["id".into(), "n".into()]);
        assert_eq!(Pattern::of_path("orders/{id}/items/{n}"), Ok(path));
    }

    #[test]
    fn a_path_that_cannot_be_meant_is_refused() {
        for path in [
            "", "/", "a//b", "a/", "{", "{}", "a{id}", "{a}{b}", "{*a}", "{a b}", "{a}/{a}",
            "a/..", "{{a}}",
        ] {
            assert!(Pattern::of_path(path).is_err(), "{path}");
        }
    }
}
