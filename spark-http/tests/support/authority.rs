//! A certificate authority of the test's own, and a client that speaks TLS.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::wire::{Client, Serving, within};

/// Vouches for others.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    is_root: bool,
}

/// A certificate and its key.
pub(crate) struct Leaf {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
    /// Those between it and the root.
    pub(crate) between: Vec<CertificateDer<'static>>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let (params, key) = Self::called("a root");
        let certificate = params.self_signed(&key).expect("signed");
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            is_root: true,
        }
    }

    /// One that this one vouches for.
    pub(crate) fn authority(&self) -> Self {
        let (params, key) = Self::called("between");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            is_root: false,
        }
    }

    fn called(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params, KeyPair::generate().expect("a key"))
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What a server on this machine needs.
    pub(crate) fn server(&self) -> Leaf {
        self.server_with(KeyPair::generate().expect("a key"))
    }

    pub(crate) fn server_with(&self, key: KeyPair) -> Leaf {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        self.leaf(&params, key)
    }

    /// A client that is called all of this.
    pub(crate) fn client(&self, common: &str, alternatives: Vec<SanType>) -> Leaf {
        self.client_with(common, alternatives, |_| {})
    }

    /// As [`client`](Self::client), but for what `change` does.
    pub(crate) fn client_with(
        &self,
        common: &str,
        alternatives: Vec<SanType>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternatives;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.leaf(&params, KeyPair::generate().expect("a key"))
    }

    fn leaf(&self, params: &CertificateParams, key: KeyPair) -> Leaf {
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let between = (!self.is_root).then(|| self.certificate.der().clone());
        Leaf {
            certificate,
            key,
            between: between.into_iter().collect(),
        }
    }

    /// A client that trusts this authority, and shows `leaf` if it is asked.
    pub(crate) fn trusting(&self, leaf: Option<&Leaf>, protocols: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let root = self.certificate.der().clone();
        roots.add(root).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match leaf {
            Some(leaf) => {
                let mut chain = vec![leaf.der()];
                chain.extend(leaf.between.iter().cloned());
                builder
                    .with_client_auth_cert(chain, leaf.key_der())
                    .expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

impl Leaf {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Connects and shakes hands.
pub(crate) async fn connect(
    serving: &Serving,
    connector: &TlsConnector,
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = within(TcpStream::connect(serving.address)).await?;
    let stream = within(connector.connect(name, stream)).await?;
    Ok(Client::new(stream))
}
