//! Clients with certificates: who vouches for them, and what they are called.

use std::{fmt, sync::Arc};

use x509_cert::{
    Certificate,
    der::{Decode as _, asn1::ObjectIdentifier},
    ext::pkix::{
        SubjectAltName,
        name::{DirectoryString, GeneralName},
    },
};

use super::{Pem, TlsError};

/// Who vouches for clients, and which of them are served.
///
/// Without an allowed name, everybody is served whom the CA vouches for.
#[derive(Clone, Debug)]
#[must_use = "it asks nobody for a certificate until a `TlsConfig` has it"]
pub struct ClientCa {
    pem: Pem,
    allowed: Option<Arc<[String]>>,
}

/// A client's certificate, verified, as a request extension.
///
/// [`HttpServer`](crate::HttpServer) adds it to the requests of clients that had to show one.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    names: Names,
}

/// What a certificate says its subject is called. No name is empty.
#[derive(Debug, Default)]
struct Names {
    dns: Vec<String>,
    uris: Vec<String>,
    emails: Vec<String>,
    common: Vec<String>,
}

// === impl ClientCa ===

impl ClientCa {
    /// The CA whose certificates are in `pem`; a path becomes a file with `From`.
    pub fn new(pem: impl Into<Pem>) -> Self {
        Self {
            pem: pem.into(),
            allowed: None,
        }
    }

    /// Serves clients called `name`, and others that are allowed, and nobody else.
    ///
    /// A client is called by each subject alternative name of its certificate that is a DNS name,
    /// a URI or an e-mail address, and by its common name. DNS names are compared without regard
    /// to case, everything else to the letter; a wildcard in a certificate stands for itself.
    ///
    /// Whoever is not allowed finishes the handshake and gets 403 for each request. A handshake
    /// that fails would tell him less: in TLS 1.3 the client believes it done, sends its request,
    /// and sees a connection that breaks.
    pub fn allow_name(self, name: impl Into<String>) -> Self {
        self.allow_names([name])
    }

    /// As [`allow_name`](Self::allow_name) with each of `names`.
    pub fn allow_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let before = self.allowed.iter().flat_map(|names| names.iter().cloned());
        let all = before.chain(names.into_iter().map(Into::into)).collect();
        self.allowed = Some(all);
        self
    }

    pub(crate) fn allows(&self, client: &ClientCertificate) -> bool {
        let Some(allowed) = &self.allowed else {
            return true;
        };
        allowed.iter().any(|name| client.is_called(name))
    }

    pub(super) fn pem(&self) -> &Pem {
        &self.pem
    }

    pub(super) fn check_names(&self) -> Result<(), TlsError> {
        match &self.allowed {
            Some(names) if names.is_empty() || names.iter().any(String::is_empty) => {
                Err(TlsError::EmptyName)
            }
            _ => Ok(()),
        }
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    pub(crate) fn new(der: &[u8]) -> Self {
        let names = Names::read(der).unwrap_or_else(|error| {
            // Whom the CA vouches for is known by no name, rather than by half of them.
            tracing::debug!(%error, "cannot read the names of a client's certificate");
            Names::default()
        });
        Self(Arc::new(Inner {
            der: der.to_owned(),
            names,
        }))
    }

    /// Whether `name` is one of its [names](Self::names), by the rules of
    /// [`ClientCa::allow_name`]. An empty name never is.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let Names {
            dns,
            uris,
            emails,
            common,
        } = &self.0.names;
        dns.iter().any(|dns| dns.eq_ignore_ascii_case(name))
            || [uris, emails, common]
                .into_iter()
                .flatten()
                .any(|own| own == name)
    }

    /// All names: DNS names, URIs, e-mail addresses, common names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = &self.0.names;
        let kinds = [&names.dns, &names.uris, &names.emails, &names.common];
        kinds.into_iter().flatten().map(String::as_str)
    }

    /// The DNS names among the subject alternative names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.0.names.dns.iter().map(String::as_str)
    }

    /// The URIs among the subject alternative names, a SPIFFE id for instance.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.names.uris.iter().map(String::as_str)
    }

    /// The e-mail addresses among the subject alternative names.
    pub fn emails(&self) -> impl Iterator<Item = &str> {
        self.0.names.emails.iter().map(String::as_str)
    }

    /// The subject's common name; the first, should it have several.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.0.names.common.first().map(String::as_str)
    }

    /// The certificate itself, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("names", &self.0.names)
            .finish_non_exhaustive()
    }
}

// === impl Names ===

impl Names {
    fn read(der: &[u8]) -> Result<Self, x509_cert::der::Error> {
        let certificate = Certificate::from_der(der)?;
        let certificate = certificate.tbs_certificate();
        let mut names = Self::default();
        for attribute in certificate.subject().iter() {
            if attribute.oid == COMMON_NAME {
                let name = DirectoryString::try_from(&attribute.value)?;
                push(&mut names.common, &name.value());
            }
        }
        let alternatives = certificate.get_extension::<SubjectAltName>()?;
        for name in alternatives.into_iter().flat_map(|(_, names)| names.0) {
            match name {
                GeneralName::DnsName(name) => push(&mut names.dns, name.as_str()),
                GeneralName::UniformResourceIdentifier(name) => {
                    push(&mut names.uris, name.as_str());
                }
                GeneralName::Rfc822Name(name) => push(&mut names.emails, name.as_str()),
                _ => {}
            }
        }
        Ok(names)
    }
}

fn push(names: &mut Vec<String>, name: &str) {
    if !name.is_empty() {
        names.push(name.to_owned());
    }
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
