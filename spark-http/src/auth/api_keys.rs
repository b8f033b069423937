//! Keys that clients send with every request.

use std::{fmt, sync::Arc};

use http::{HeaderMap, request::Parts};
use subtle::ConditionallySelectable as _;

use super::{Authenticate, Identity, Secret};
use crate::{ConfigError, ErrorAnswer};

/// Names and their API keys.
///
/// A client sends its key as `Authorization: Bearer k`, `Authorization: k` or `x-api-key: k`; with
/// `Authorization` there, `x-api-key` is not looked at. It is answered 401 `Missing API Key` or
/// `Invalid API Key`. Only digests of keys are kept; each request's is compared to all of them, in a time
/// that depends on how many there are and on nothing else.
///
/// Without a key in it, [`IngressBuilder::api_keys`](crate::IngressBuilder::api_keys) lets everybody in.
///
/// # Examples
///
/// ```
/// use spark_http::{ApiKeys, ConfigError, Context, Ingress};
///
/// fn ingress(old: &str, new: &str, nightly: &str) -> Result<Ingress, ConfigError> {
///     // Two keys of one name: clients change from one to the other.
///     let keys = ApiKeys::new([("web", old), ("web", new), ("nightly", nightly)])?;
///     Ingress::builder()
///         .api_keys(keys)
///         .handler_fn("who", |context: Context, _body| async move {
///             context.identity().map_or("nobody".to_owned(), |identity| identity.name().to_owned())
///         })
///         .build()
/// }
/// ```
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Arc<[(Identity, Secret)]>,
}

// === impl ApiKeys ===

impl ApiKeys {
    /// Keys, each with the name of who has it. `Bearer` in front of a key is no part of it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidCredential`] if a key is empty, begins or ends with a space, has a control
    /// character in it, or is there twice. It says the name, not the key.
    pub fn new<N, K>(keys: impl IntoIterator<Item = (N, K)>) -> Result<Self, ConfigError>
    where
        N: Into<Arc<str>>,
        K: AsRef<str>,
    {
        let mut known: Vec<(Identity, Secret)> = Vec::new();
        for (name, key) in keys {
            let identity = Identity::new(name);
            let secret = Secret::configured(identity.name(), key.as_ref())?;
            if known.iter().any(|(_, other)| secret.is(other).into()) {
                return Err(ConfigError::InvalidCredential {
                    name: identity.name().to_owned(),
                    reason: "is the same as another one",
                });
            }
            known.push((identity, secret));
        }
        Ok(Self { keys: known.into() })
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// # Errors
    ///
    /// 401.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Identity, ErrorAnswer> {
        let presented = Secret::presented(headers)?;
        let identity = self.of(&presented);
        identity.ok_or_else(|| ErrorAnswer::unauthorized("Invalid API Key"))
    }

    pub(crate) fn has(&self, secret: &Secret) -> bool {
        self.of(secret).is_some()
    }

    fn of(&self, presented: &Secret) -> Option<Identity> {
        let found = place_of(presented, self.keys.iter().map(|(_, secret)| secret))?;
        Some(self.keys[found].0.clone())
    }
}

impl Authenticate for ApiKeys {
    async fn authenticate(&self, head: &Parts) -> Result<Identity, ErrorAnswer> {
        self.check(&head.headers)
    }
}

impl fmt::Debug for ApiKeys {
    /// The names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|(identity, _)| identity.name());
        f.debug_list().entries(names).finish()
    }
}

/// Which of `secrets` is the one presented. All are compared, whichever it is.
fn place_of<'a>(presented: &Secret, secrets: impl Iterator<Item = &'a Secret>) -> Option<usize> {
    // Counted from one; no key stands at zero.
    let mut found = 0_u32;
    for (place, secret) in (1..).zip(secrets) {
        found.conditional_assign(&place, secret.is(presented));
    }
    usize::try_from(found).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_compared_whichever_of_them_fits() {
        let known = |key| Secret::configured("k", key).expect("valid");
        let keys = ["first", "second", "third"].map(known);
        for (presented, place) in [
            ("first", Some(0)),
            ("second", Some(1)),
            ("third", Some(2)),
            ("none", None),
        ] {
            let mut compared = 0;
            let counted = keys.iter().inspect(|_| compared += 1);
            assert_eq!(place_of(&known(presented), counted), place);
            assert_eq!(compared, keys.len(), "{presented}");
        }
    }
}
