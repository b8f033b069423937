//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use eyre::WrapErr as _;
use spark_http::{ApiKeys, ClientCa, Endpoint, ShutdownCredential, TlsConfig};

/// Serves every kind of route of spark-http.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Where to listen: an address and a port (0 takes any that is free), or `unix:PATH`. May be
    /// given several times
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: Vec<String>,

    /// Answers 401 to whoever sends no such key. May be given several times
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,

    /// Answers 413 to larger bodies
    #[arg(long, value_name = "BYTES")]
    pub(crate) body_limit: Option<usize>,

    /// Answers 408 to a head that takes longer
    #[arg(long, value_name = "MS")]
    header_timeout_ms: Option<u64>,

    /// Answers 504 when a handler takes longer
    #[arg(long, value_name = "MS")]
    handler_timeout_ms: Option<u64>,

    /// As --handler-timeout-ms, for /slow alone
    #[arg(long, value_name = "MS")]
    slow_timeout_ms: Option<u64>,

    /// How many requests may be in flight at a time; others wait, or get 503
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) max_in_flight: Option<usize>,

    /// How many requests may wait while as many as --max-in-flight are in flight
    #[arg(long, value_name = "REQUESTS")]
    pub(crate) queue: Option<usize>,

    /// The server's certificate chain, PEM. Turns TLS on, on every address that is no Unix socket
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM: PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Asks clients for a certificate of this CA, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,

    /// Serves only clients whose certificate has this name. May be given several times
    #[arg(long, value_name = "NAME", requires = "client_ca")]
    allow_name: Vec<String>,

    /// Has POST /shutdown end the process for whoever sends this credential, which is no --api-key;
    /// without one, for whoever sends an --api-key
    #[arg(long, value_name = "CREDENTIAL", num_args = 0..=1, default_missing_value = "")]
    enable_shutdown: Option<String>,

    /// How long a shutdown may take: what the server has under way, and after it the modules
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    drain_ms: u64,
}

/// Who may end the process from outside.
#[derive(Debug)]
pub(crate) enum Shutdown {
    Off,
    ByCredential(ShutdownCredential),
    ByApiKey,
}

// === impl Options ===

impl Options {
    /// # Errors
    ///
    /// If the files for TLS are not what they should be.
    pub(crate) fn endpoints(&self) -> eyre::Result<Vec<Endpoint>> {
        let tls = self.tls()?;
        let endpoint = |address: &String| match (address.strip_prefix("unix:"), &tls) {
            (Some(path), _) => Endpoint::unix(path),
            (None, Some(tls)) => Endpoint::tls(address, tls.clone()),
            (None, None) => Endpoint::tcp(address),
        };
        Ok(self.listen.iter().map(endpoint).collect())
    }

    /// # Errors
    ///
    /// If a key is empty, or there twice.
    pub(crate) fn api_keys(&self) -> eyre::Result<ApiKeys> {
        let named = (1..).zip(&self.api_key);
        let keys = ApiKeys::new(named.map(|(number, key)| (format!("key {number}"), key)));
        keys.wrap_err("--api-key")
    }

    /// # Errors
    ///
    /// If there is no credential to ask for.
    pub(crate) fn shutdown(&self) -> eyre::Result<Shutdown> {
        match self.enable_shutdown.as_deref() {
            None => Ok(Shutdown::Off),
            Some("") if self.api_key.is_empty() => {
                eyre::bail!("--enable-shutdown needs a credential of its own, or an --api-key")
            }
            Some("") => Ok(Shutdown::ByApiKey),
            Some(own) => {
                let credential = ShutdownCredential::new(own).wrap_err("--enable-shutdown")?;
                Ok(Shutdown::ByCredential(credential))
            }
        }
    }

    pub(crate) fn header_timeout(&self) -> Option<Duration> {
        self.header_timeout_ms.map(Duration::from_millis)
    }

    pub(crate) fn handler_timeout(&self) -> Option<Duration> {
        self.handler_timeout_ms.map(Duration::from_millis)
    }

    pub(crate) fn slow_timeout(&self) -> Option<Duration> {
        self.slow_timeout_ms.map(Duration::from_millis)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    fn tls(&self) -> eyre::Result<Option<TlsConfig>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let mut tls = TlsConfig::builder(certificate, key);
        if let Some(ca) = &self.client_ca {
            let mut ca = ClientCa::new(ca);
            if !self.allow_name.is_empty() {
                ca = ca.allow_names(&self.allow_name);
            }
            tls = tls.client_ca(ca);
        }
        Ok(Some(tls.build()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_configuration_is_refused() {
        for line in [
            "--tls-cert a",
            "--tls-key a",
            "--client-ca a",
            "--tls-cert a --tls-key b --allow-name c",
        ] {
            let flags = ["ingress"].into_iter().chain(line.split(' '));
            assert!(Options::try_parse_from(flags).is_err(), "{line}");
        }
    }

    #[test]
    fn a_shutdown_asks_for_a_credential() {
        let shutdown = |line: &str| {
            let flags = ["ingress"].into_iter().chain(line.split_whitespace());
            Options::try_parse_from(flags)
                .expect("valid flags")
                .shutdown()
        };
        assert!(matches!(shutdown(""), Ok(Shutdown::Off)));
        let own = shutdown("--enable-shutdown stop");
        assert!(matches!(own, Ok(Shutdown::ByCredential(_))));
        let key = shutdown("--enable-shutdown --api-key k");
        assert!(matches!(key, Ok(Shutdown::ByApiKey)));
        assert!(shutdown("--enable-shutdown").is_err());
    }
}
