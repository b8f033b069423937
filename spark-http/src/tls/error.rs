//! What can be wrong with a certificate, a key or a client CA.

use std::{error::Error, io};

/// Error returned by [`TlsConfigBuilder::build`](crate::TlsConfigBuilder::build) and
/// [`TlsConfig::reload`](crate::TlsConfig::reload).
///
/// It names files, and never what is in them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}")]
    Unreadable {
        /// Where it was looked for.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no certificate where one should be: the PEM is empty, or is of something else.
    #[error("no certificate in {file}")]
    NoCertificate {
        /// Where it was looked for.
        file: String,
    },
    /// There is no private key where one should be. An encrypted one is none: it cannot be read.
    #[error("no private key in {file} (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoPrivateKey {
        /// Where it was looked for.
        file: String,
    },
    /// The PEM is damaged.
    #[error("{file} is not valid PEM")]
    BadPem {
        /// Where it is.
        file: String,
    },
    /// The private key is another certificate's.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    KeyMismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// A name that clients may have is empty, or all of them were left out: nobody could have it.
    #[error("allowed names of clients are empty")]
    EmptyName,
    /// TLS has no use for what was read: a damaged certificate, a key of an unknown kind.
    #[error("certificate or key was rejected")]
    Rejected {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

// === impl TlsError ===

impl TlsError {
    pub(super) fn rejected(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Rejected {
            source: Box::new(source),
        }
    }
}
