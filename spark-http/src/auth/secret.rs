//! What a client must know, and how it says so.
//!
//! Invariants:
//!
//! 1. Only the digest of a secret is kept.
//! 2. How long a comparison takes depends on neither side: digests have one length, and all of
//!    their bytes are compared.

use std::fmt;

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE, GetAll, PROXY_AUTHORIZATION},
};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{ConfigError, ErrorAnswer};

/// The SHA-256 digest of a key or password.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

// === impl Secret ===

impl Secret {
    /// The secret `text`, with or without `Bearer` in front. `name` is for the error.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is empty or no client could send it.
    pub(crate) fn configured(name: &str, text: &str) -> Result<Self, ConfigError> {
        let text = after_bearer(text.as_bytes());
        let reason = if text.is_empty() {
            "is empty"
        } else if text.first() == Some(&b' ') || text.last() == Some(&b' ') {
            "begins or ends with a space, which headers cannot carry"
        } else if text.iter().any(u8::is_ascii_control) {
            "has a control character in it, which headers cannot carry"
        } else {
            return Ok(Self::of(text));
        };
        Err(ConfigError::InvalidCredential {
            name: name.to_owned(),
            reason,
        })
    }

    /// What the client says: the first of `Authorization: Bearer k`, `Authorization: k` and
    /// `x-api-key: k` that is there.
    ///
    /// # Errors
    ///
    /// 401 if there is none, or if it is said twice.
    pub(crate) fn presented(headers: &HeaderMap) -> Result<Self, ErrorAnswer> {
        let mut values = said(headers);
        let Some(value) = values.next() else {
            return Err(ErrorAnswer::unauthorized("Missing API Key"));
        };
        if values.next().is_some() {
            return Err(ErrorAnswer::unauthorized("Invalid API Key"));
        }
        Ok(Self::of(after_bearer(value.as_bytes())))
    }

    /// Whether both are one, in constant time.
    pub(crate) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

fn said(headers: &HeaderMap) -> <GetAll<'_, http::HeaderValue> as IntoIterator>::IntoIter {
    let name = if headers.contains_key(AUTHORIZATION) {
        AUTHORIZATION
    } else {
        X_API_KEY
    };
    headers.get_all(name).into_iter()
}

/// Whether headers of this name carry what nobody else should know.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    CREDENTIALS.contains(name)
}

/// `text` without the scheme of RFC 6750 in front, whose case does not matter.
fn after_bearer(text: &[u8]) -> &[u8] {
    match text.split_at_checked(BEARER.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(BEARER) => rest.trim_ascii_start(),
        _ => text,
    }
}

const BEARER: &[u8] = b"bearer ";

/// Cookies too: what one's own authentication goes by.
static CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, X_API_KEY, COOKIE, PROXY_AUTHORIZATION];

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_in_front_is_no_part_of_a_secret() {
        for (text, rest) in [
            ("Bearer k", "k"),
            ("bearer  k k", "k k"),
            ("k", "k"),
            ("Bearer", "Bearer"),
            ("Bearerk", "Bearerk"),
            ("Bearer ", ""),
        ] {
            assert_eq!(after_bearer(text.as_bytes()), rest.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_equal_to_itself_only() {
        let secret = Secret::of(b"secret");
        assert!(bool::from(secret.is(&Secret::of(b"secret"))));
        for other in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!bool::from(secret.is(&Secret::of(other.as_bytes()))));
        }
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_secret_can_only_be_compared_in_constant_time() {
        // `==` on bytes stops at the first that differs.
        static_assertions::assert_not_impl_any!(Secret: PartialEq, PartialOrd, AsRef<[u8]>);
    }
}
