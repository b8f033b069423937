//! The opening handshake (RFC 6455 4.2): who may change to WebSocket, and into what.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{Answer, ErrorAnswer};

/// The web pages whose scripts may open a [`WebSocket`](crate::WebSocket).
///
/// A browser sends a site's cookies, and its user's client certificates, with a WebSocket's
/// handshake whatever page asks for it, and reads the answers for that page: unlike for `fetch`, the
/// server has to look at `Origin` itself. Servers on a private network are reached this way even
/// without credentials. Programs that are no browsers send no `Origin`, and may always connect:
/// what they can send is up to them anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// Pages of the host and port that the request is for. The default.
    ///
    /// A proxy in front must pass `Host` on as it came.
    #[default]
    Same,
    /// Pages of these origins, as browsers write them: `https://example.com`, with a port if it is
    /// not the scheme's own.
    Listed(Vec<String>),
    /// All pages. For sockets that ask for a credential which browsers do not add by themselves,
    /// or that are public.
    Any,
}

/// Whether a request asks for a WebSocket at all.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// Checks a handshake and makes the 101 that accepts it.
///
/// # Errors
///
/// 426 if it is none, or of another version; 403 for a page that may not; 400 for a key that is none.
pub(super) fn accept(
    headers: &HeaderMap,
    origins: &Origins,
    subprotocols: &[HeaderValue],
) -> Result<Answer, ErrorAnswer> {
    if !is_asked(headers) {
        return Err(ErrorAnswer::upgrade_required());
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        return Err(ErrorAnswer::upgrade_required());
    }
    if !origins.allow(headers) {
        return Err(ErrorAnswer::origin_not_allowed());
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| is_key(key));
    let key = key.ok_or_else(|| ErrorAnswer::bad_parameter("sec-websocket-key is not a key"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key));
    let mut answer = ErrorAnswer::switching_protocols();
    let answered = answer.headers_mut();
    answered.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answered.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answered.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(ErrorAnswer::internal)?);
    // The server's favourite of what the client can speak.
    let spoken = |ours: &&HeaderValue| {
        tokens(headers, &SEC_WEBSOCKET_PROTOCOL).any(|theirs| theirs.as_bytes() == ours.as_bytes())
    };
    if let Some(subprotocol) = subprotocols.iter().find(spoken) {
        answered.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
    }
    Ok(answer)
}

// === impl Origins ===

impl Origins {
    fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return true;
        };
        let (None, Ok(origin)) = (origins.next(), origin.to_str()) else {
            return *self == Self::Any;
        };
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.iter().any(|one| one.eq_ignore_ascii_case(origin)),
            Self::Same => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                host.is_some_and(|host| is_same(origin, host))
            }
        }
    }
}

/// Whether a page of `origin` is one of `host`. The schemes are not compared: behind a proxy that
/// ends TLS, ours is another one than the browser's.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        // `null`, which pages without an origin send.
        return false;
    };
    let default_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (theirs, their_port) = split_port(authority);
    let (ours, our_port) = split_port(host);
    theirs.eq_ignore_ascii_case(ours)
        && their_port.unwrap_or(default_port) == our_port.unwrap_or(default_port)
}

/// Splits `host:port`, where the host may be an IPv6 address in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_digit)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// The elements of a header that is a list.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn handshake(changes: &[(&'static str, &str)]) -> HeaderMap {
        let good = [
            ("host", "example.com"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in good.iter().chain(changes) {
            headers.insert(*name, HeaderValue::from_str(value).expect("visible"));
        }
        headers
    }

    fn status(headers: &HeaderMap, origins: &Origins) -> u16 {
        match accept(headers, origins, &[]) {
            Ok(answer) => answer.status().as_u16(),
            Err(error) => error.status().as_u16(),
        }
    }

    #[test]
    fn the_handshake_of_the_rfc_is_accepted_as_it_says() {
        let answer = accept(&handshake(&[]), &Origins::Same, &[]).expect("accepted");
        assert_eq!(answer.status(), 101);
        let headers = answer.headers();
        assert_eq!(
            headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(headers["upgrade"], "websocket");
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let cases = [
            (("connection", "keep-alive"), 426),
            (("upgrade", "h2c"), 426),
            (("sec-websocket-version", "12"), 426),
            (("sec-websocket-key", "short=="), 400),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZ!=="), 400),
        ];
        for (change, expected) in cases {
            assert_eq!(
                status(&handshake(&[change]), &Origins::Any),
                expected,
                "{change:?}"
            );
        }
        assert_eq!(status(&HeaderMap::new(), &Origins::Any), 426);
    }

    #[test]
    fn pages_of_the_same_host_and_port_may_connect_by_default() {
        let cases = [
            ("example.com", "https://example.com", true),
            ("example.com", "http://EXAMPLE.com", true),
            ("example.com:443", "https://example.com", true),
            ("example.com", "https://example.com:8443", false),
            ("localhost:8080", "http://localhost:8080", true),
            ("localhost:8080", "http://localhost", false),
            ("localhost:8080", "http://localhost:3000", false),
            ("[::1]:8080", "http://[::1]:8080", true),
            ("[::1]", "http://[::1]", true),
            ("example.com", "https://evil.example", false),
            ("example.com", "https://example.com.evil.example", false),
            ("example.com", "https://evil.example/example.com", false),
            ("example.com", "null", false),
            ("example.com", "file://example.com", false),
            ("example.com", "", false),
        ];
        for (host, origin, allowed) in cases {
            let headers = handshake(&[("host", host), ("origin", origin)]);
            let expected = if allowed { 101 } else { 403 };
            assert_eq!(
                status(&headers, &Origins::Same),
                expected,
                "{host} {origin}"
            );
            assert_eq!(status(&headers, &Origins::Any), 101);
        }
        let listed = Origins::Listed(vec!["https://app.example".to_owned()]);
        let of = |origin| status(&handshake(&[("origin", origin)]), &listed);
        assert_eq!(
            (of("https://app.example"), of("https://example.com")),
            (101, 403)
        );
        assert_eq!(status(&handshake(&[]), &listed), 101);

        let mut twice = handshake(&[("origin", "https://example.com")]);
        twice.append("origin", HeaderValue::from_static("https://evil.example"));
        assert_eq!(status(&twice, &Origins::Same), 403);
    }

    #[test]
    fn the_first_subprotocol_of_ours_that_the_client_speaks_is_chosen() {
        let ours = ["v2.spark", "v1.spark"].map(HeaderValue::from_static);
        let chosen = |offered| {
            let headers = handshake(&[("sec-websocket-protocol", offered)]);
            let answer = accept(&headers, &Origins::Same, &ours).expect("accepted");
            answer.headers().get("sec-websocket-protocol").cloned()
        };
        assert_eq!(chosen("v1.spark, v2.spark"), Some(ours[0].clone()));
        assert_eq!(chosen("other,v1.spark"), Some(ours[1].clone()));
        assert_eq!(chosen("other"), None);
    }
}
