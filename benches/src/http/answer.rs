//! Just enough of an answer to know when it is whole.

use std::io;

/// What has to be known of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of head and body, in bytes.
    pub(super) length: usize,
}

// === impl Answer ===

impl Answer {
    /// Reads the head that `bytes` begin with. `None` if it is not complete yet.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let malformed = || io::Error::other("no answer of HTTP/1.1 with a length");
        let head = str::from_utf8(&bytes[..end]).map_err(|_| malformed())?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let body = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        match (status, body) {
            (Some(status), Some(body)) => Ok(Some(Self {
                status,
                length: end + 4 + body,
            })),
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        assert!(Answer::parse(&bytes[..20]).unwrap().is_none());
        let answer = Answer::parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (404, bytes.len()));
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
