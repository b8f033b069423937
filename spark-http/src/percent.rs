//! Percent-encoding, read strictly: what is not percent-encoded UTF-8 is not guessed at.

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// A `%` begins no escape.
    Escape,
    /// What it decodes to is not UTF-8.
    Utf8,
}

/// Decodes `text` once. `push` gets each byte, and whether it was escaped.
pub(crate) fn decode(text: &str, push: impl Fn(&mut Vec<u8>, u8, bool)) -> Result<String, Invalid> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            push(&mut decoded, byte, false);
            continue;
        }
        match (bytes.next().and_then(digit), bytes.next().and_then(digit)) {
            (Some(high), Some(low)) => push(&mut decoded, high << 4 | low, true),
            _ => return Err(Invalid::Escape),
        }
    }
    String::from_utf8(decoded).map_err(|_| Invalid::Utf8)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
