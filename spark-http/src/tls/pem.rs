//! Where PEM comes from, and what is read out of it.

use std::{
    borrow::Cow,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::TlsError;

/// Certificates or a key in PEM: a file, or its content.
///
/// Neither `Debug` nor `Display` shows the content.
#[derive(Clone)]
pub struct Pem(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Content(Arc<[u8]>),
}

// === impl Pem ===

impl Pem {
    /// The file at `path`, read whenever it is needed.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Content that is in memory already. Reloading it changes nothing.
    #[must_use]
    pub fn content(pem: impl Into<Vec<u8>>) -> Self {
        Self(Source::Content(pem.into().into()))
    }

    /// All certificates, in order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) | Err(pem::Error::NoItemsFound) => Err(TlsError::NoCertificate {
                file: self.to_string(),
            }),
            Err(_) => Err(self.bad()),
        }
    }

    /// The first private key.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = self.read()?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoPrivateKey {
                file: self.to_string(),
            },
            // Without its cause, which may quote a line.
            _ => self.bad(),
        })
    }

    fn read(&self) -> Result<Cow<'_, [u8]>, TlsError> {
        match &self.0 {
            Source::File(path) => match fs::read(path) {
                Ok(content) => Ok(content.into()),
                Err(source) => Err(TlsError::Unreadable {
                    file: self.to_string(),
                    source,
                }),
            },
            Source::Content(content) => Ok(Cow::Borrowed(content)),
        }
    }

    fn bad(&self) -> TlsError {
        TlsError::BadPem {
            file: self.to_string(),
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => path.display().fmt(f),
            Source::Content(_) => f.write_str("the PEM given"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => f.debug_tuple("Pem").field(path).finish(),
            Source::Content(_) => f.debug_tuple("Pem").finish_non_exhaustive(),
        }
    }
}

impl From<&str> for Pem {
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

impl From<String> for Pem {
    fn from(path: String) -> Self {
        Self::file(path)
    }
}

impl From<&Path> for Pem {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

impl From<&PathBuf> for Pem {
    fn from(path: &PathBuf) -> Self {
        Self::file(path)
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}
