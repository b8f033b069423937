//! What a server needs to speak TLS, read from PEM and exchanged while it runs.
//!
//! Nothing here is global: the crypto provider is ring's, named wherever one is needed, and the
//! process's default is neither read nor set.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    InconsistentKeys, RootCertStore, ServerConfig, crypto::CryptoProvider,
    server::WebPkiClientVerifier, version,
};

mod client;
mod error;
mod pem;

pub use client::{ClientCa, ClientCertificate};
pub use error::TlsError;
pub use pem::Pem;

/// A certificate chain with its private key, and whom to ask for a certificate in return.
///
/// A clone is the same configuration: [`reload`](Self::reload) on one of them is what changes the
/// certificate of a server that runs with another. TLS 1.2 and 1.3; with the protocols that the
/// server speaks offered through ALPN.
///
/// # Examples
///
/// ```no_run
/// use spark_http::{ClientCa, Endpoint, HttpServer, TlsConfig};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsConfig::builder("server.pem", "server-key.pem")
///     .client_ca(ClientCa::new("clients-ca.pem").allow_name("billing.example"))
///     .build()?;
/// let server = HttpServer::bind(Endpoint::tls("0.0.0.0:8443", tls.clone())).await?;
///
/// // Whenever the files have changed:
/// if let Err(error) = tls.reload() {
///     eprintln!("still the old certificate: {error}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    shared: Arc<Shared>,
}

/// Settings of a [`TlsConfig`].
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until they are built"]
pub struct TlsConfigBuilder {
    certificate: Pem,
    key: Pem,
    client_ca: Option<ClientCa>,
}

struct Shared {
    settings: TlsConfigBuilder,
    loaded: RwLock<Arc<Loaded>>,
    /// Held from the first file read to the exchange, or of two reloads the one that read first
    /// could have the last word.
    reloading: Mutex<()>,
}

/// What new connections use: all of one load, so that a key never meets the certificate of
/// another one.
pub(crate) struct Loaded {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client_ca: Option<ClientCa>,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// Starts with a certificate chain, the server's own certificate first, and the private key
    /// of that certificate: PKCS#8, PKCS#1 or SEC1, not encrypted. Paths become files with `From`.
    pub fn builder(certificate: impl Into<Pem>, key: impl Into<Pem>) -> TlsConfigBuilder {
        TlsConfigBuilder {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
        }
    }

    /// Reads certificate, key and client CA again. Connections accepted from now on use them, all
    /// three; those that are open keep what they began with.
    ///
    /// Reads files on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`TlsConfigBuilder::build`]; everything then stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let reloading = self.shared.reloading.lock();
        let _reloading = reloading.unwrap_or_else(PoisonError::into_inner);
        let loaded = Arc::new(self.shared.settings.load()?);
        let current = self.shared.loaded.write();
        *current.unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<Loaded> {
        let current = self.shared.loaded.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TlsConfigBuilder {
            certificate,
            key,
            client_ca,
        } = &self.shared.settings;
        f.debug_struct("TlsConfig")
            .field("certificate", certificate)
            .field("key", key)
            .field("client_ca", client_ca)
            .finish_non_exhaustive()
    }
}

// === impl TlsConfigBuilder ===

impl TlsConfigBuilder {
    /// Asks every client for a certificate and serves those that `ca` vouches for. Default:
    /// nobody is asked.
    ///
    /// The handshake fails for a client without one. The one it has is an extension of each of
    /// its requests, [`ClientCertificate`].
    pub fn client_ca(mut self, ca: ClientCa) -> Self {
        self.client_ca = Some(ca);
        self
    }

    /// Reads everything and checks that it fits together.
    ///
    /// Reads files on the calling thread.
    ///
    /// # Errors
    ///
    /// [`TlsError`]: a file cannot be read, has nothing of the kind in it, or what is in it does
    /// not fit the rest.
    pub fn build(self) -> Result<TlsConfig, TlsError> {
        let loaded = self.load()?;
        Ok(TlsConfig {
            shared: Arc::new(Shared {
                settings: self,
                loaded: RwLock::new(Arc::new(loaded)),
                reloading: Mutex::new(()),
            }),
        })
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = self.certificate.certificates()?;
        let key = self.key.private_key()?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(TlsError::rejected)?;
        let builder = match &self.client_ca {
            Some(ca) => builder.with_client_cert_verifier(verifier(ca, provider)?),
            None => builder.with_no_client_auth(),
        };
        let server = builder.with_single_cert(chain, key);
        let mut server = server.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::KeyMismatch {
                    certificate: self.certificate.to_string(),
                    key: self.key.to_string(),
                }
            }
            other => TlsError::rejected(other),
        })?;
        server.alpn_protocols = ALPN.iter().map(|&name| name.to_vec()).collect();
        Ok(Loaded {
            server: Arc::new(server),
            client_ca: self.client_ca.clone(),
        })
    }
}

fn verifier(
    ca: &ClientCa,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    ca.check_names()?;
    let mut roots = RootCertStore::empty();
    for certificate in ca.pem().certificates()? {
        roots.add(certificate).map_err(TlsError::rejected)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(TlsError::rejected)
}

/// In order of preference.
#[cfg(feature = "http2")]
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
#[cfg(not(feature = "http2"))]
const ALPN: &[&[u8]] = &[b"http/1.1"];
