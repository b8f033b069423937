//! Clients known by their certificates.

use std::sync::Arc;

use http::request::Parts;

use super::{Authenticate, Identity};
use crate::{ClientCertificate, ConfigError, ErrorAnswer};

/// Names in clients' certificates, and whose they are.
///
/// The certificate is the one that was verified as the connection began, so the server needs
/// [`TlsConfigBuilder::client_ca`](crate::TlsConfigBuilder::client_ca). A request without one (over
/// a plain endpoint of the same server, for instance) is answered 401, one with a certificate that
/// has none of the names 403.
///
/// Names are compared as [`ClientCa::allow_name`](crate::ClientCa::allow_name) says. A certificate
/// with several of them has the identity of the one that was given first.
///
/// # Examples
///
/// ```
/// use spark_http::{ClientNames, ConfigError, Ingress};
///
/// fn ingress() -> Result<Ingress, ConfigError> {
///     let names = ClientNames::new([
///         ("spiffe://example.org/billing", "billing"),
///         ("nightly.example.org", "nightly"),
///     ])?;
///     Ingress::builder()
///         .authenticate(names)
///         .handler_fn("hello", |_context, _body| async { "world" })
///         .build()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ClientNames {
    known: Arc<[(Box<str>, Identity)]>,
}

// === impl ClientNames ===

impl ClientNames {
    /// Names in certificates, each with the name of the [`Identity`] that it stands for. Several
    /// may stand for one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidCredential`] if a name in a certificate is empty, or is there twice.
    pub fn new<N, I>(names: impl IntoIterator<Item = (N, I)>) -> Result<Self, ConfigError>
    where
        N: Into<String>,
        I: Into<Arc<str>>,
    {
        let mut known: Vec<(Box<str>, Identity)> = Vec::new();
        for (name, identity) in names {
            let (name, identity) = (name.into().into_boxed_str(), Identity::new(identity));
            let reason = if name.is_empty() {
                "is empty"
            } else if known.iter().any(|(other, _)| *other == name) {
                "is the same as another one"
            } else {
                known.push((name, identity));
                continue;
            };
            return Err(ConfigError::InvalidCredential {
                name: identity.name().to_owned(),
                reason,
            });
        }
        Ok(Self {
            known: known.into(),
        })
    }

    fn of(&self, client: &ClientCertificate) -> Option<Identity> {
        let mut known = self.known.iter();
        let found = known.find(|(name, _)| client.is_called(name));
        found.map(|(_, identity)| identity.clone())
    }
}

impl Authenticate for ClientNames {
    async fn authenticate(&self, head: &Parts) -> Result<Identity, ErrorAnswer> {
        let client = head.extensions.get::<ClientCertificate>();
        let client =
            client.ok_or_else(|| ErrorAnswer::unauthorized("Missing client certificate"))?;
        let identity = self.of(client);
        identity.ok_or_else(|| ErrorAnswer::forbidden("not allowed"))
    }
}
