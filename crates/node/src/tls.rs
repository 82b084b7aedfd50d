//! TLS: PEM files, rustls configurations, and whom a certificate speaks for.
//!
//! The crypto provider is `ring`, named here and not taken from a process-wide default, so that the order in which
//! parts start cannot matter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use httt_feed::{AgencyCode, Digest};
use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub use crate::config::TlsConfig;

/// What a member's certificate carries as its only such URI in `subjectAltName`, followed by the agency code.
pub const MEMBER_URN: &str = "urn:httt:member:";

/// ALPN names that the server accepts, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing, unreadable or not PEM.
    #[error("{what} {}: {source}", path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The file has no certificate.
    #[error("{} holds no certificate; it must be PEM with BEGIN CERTIFICATE", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file cannot be used as an authority.
    #[error("certificate authority {}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate {} with key {}: {source}", certificate.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The other side's certificate is to be checked, and the configuration has no authority to check it by.
    #[error("`ca` is missing beside certificate {}: the authority of the other side's certificate", certificate.display())]
    NoAuthority {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The authorities cannot check client certificates.
    #[error("certificate authority {}: {source}", path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifierBuilderError,
    },
    /// The provider lacks what this program asks for; cannot happen with `ring`.
    #[error("TLS provider: {0}")]
    Provider(rustls::Error),
}

/// Whether a server asks its clients for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not.
    None,
    /// It checks one that is offered: people and members on the same port.
    Optional,
    /// No certificate, no connection.
    Required,
}

/// Reads a PEM file as text, for libraries that parse PEM themselves. Blocking.
pub fn read_pem(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::Pem {
        what: "PEM file",
        path: path.to_owned(),
        source: pem::Error::Io(source),
    })
}

/// Reads every certificate of a PEM file. Blocking.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { what: "certificate", path: path.to_owned(), source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(certificates) }
}

/// Reads the first private key of a PEM file. Blocking.
pub fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem {
        what: "private key",
        path: path.to_owned(),
        source,
    })
}

/// A server's side: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. Blocking.
pub fn server_config(config: &TlsConfig, clients: ClientAuth) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = match (clients, &config.ca) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (_, None) => return Err(TlsError::NoAuthority { certificate: config.certificate.to_path_buf() }),
        (wanted, Some(ca)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(load_roots(ca)?), provider);
            let verifier = match wanted {
                ClientAuth::Required => verifier.build(),
                _ => verifier.allow_unauthenticated().build(),
            };
            let failed = |source| TlsError::Verifier { path: ca.to_path_buf(), source };
            builder.with_client_cert_verifier(verifier.map_err(failed)?)
        }
    };
    let mut server = builder
        .with_single_cert(load_certificates(&config.certificate)?, load_key(&config.key)?)
        .map_err(|source| identity_error(&config.certificate, &config.key, source))?;
    server.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(server))
}

/// A member's client side: believes the authorities in `config.ca` and nobody else, and shows its certificate. ALPN is
/// left to whoever connects. Blocking.
pub fn client_config(config: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let TlsConfig { certificate, key, ca } = config;
    let ca = ca.as_ref().ok_or_else(|| TlsError::NoAuthority { certificate: certificate.to_path_buf() })?;
    believing(ca)?
        .with_client_auth_cert(load_certificates(certificate)?, load_key(key)?)
        .map_err(|source| identity_error(certificate, key, source))
}

/// A client's side without a certificate of its own: believes the authorities in `ca` and nobody else. Blocking.
pub fn anonymous_client_config(ca: &Path) -> Result<ClientConfig, TlsError> {
    Ok(believing(ca)?.with_no_client_auth())
}

/// A client's side that believes nobody: for plain HTTP on this machine.
pub fn trustless_client_config() -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

fn believing(ca: &Path) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_root_certificates(load_roots(ca)?))
}

/// Whom a certificate speaks for: the code in its one [`MEMBER_URN`] URI. `None` for none, several, or a malformed
/// code. The certificate's own validity was checked by the handshake it came from.
pub fn member_identity(certificate: &[u8]) -> Option<AgencyCode> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut members = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(MEMBER_URN),
        _ => None,
    });
    let code = members.next()?;
    if members.next().is_some() {
        return None;
    }
    AgencyCode::new(code).ok()
}

/// What is registered of a member's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCertificate {
    /// SHA-256 of its DER.
    pub sha256: Digest,
    /// Its end, Unix milliseconds.
    pub not_after_ms: i64,
    /// Whom it names, see [`member_identity`].
    pub member: Option<AgencyCode>,
}

/// Reads the first certificate of a PEM text; `None`: there is none. Nothing says that an authority signed it.
pub fn read_certificate(pem: &str) -> Option<MemberCertificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let not_after_ms = certificate.validity().not_after.timestamp().saturating_mul(1_000);
    Some(MemberCertificate { sha256: Digest::of(&der), not_after_ms, member: member_identity(&der) })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn load_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn identity_error(certificate: &Path, key: &Path, source: rustls::Error) -> TlsError {
    TlsError::Identity { certificate: certificate.to_owned(), key: key.to_owned(), source }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small public-key infrastructure in a temporary folder.

    use std::path::PathBuf;

    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use tempfile::TempDir;

    use crate::config::{ConfigPath, TlsConfig};

    pub(crate) struct Pki {
        folder: TempDir,
        ca: CertifiedIssuer<'static, KeyPair>,
    }

    impl Pki {
        pub(crate) fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
            let folder = tempfile::tempdir().expect("folder");
            std::fs::write(folder.path().join("ca.pem"), ca.pem()).expect("write");
            Self { folder, ca }
        }

        pub(crate) fn ca(&self) -> PathBuf {
            self.path("ca.pem")
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Issues `NAME.pem` and `NAME.key` for the loopback address and the given URIs.
        pub(crate) fn issue(&self, name: &str, uris: &[&str]) -> (Vec<u8>, TlsConfig) {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("params");
            params.subject_alt_names.extend(uris.iter().map(|&uri| SanType::URI(uri.try_into().expect("ascii"))));
            let key = KeyPair::generate().expect("key");
            let certificate = params.signed_by(&key, &self.ca).expect("certificate");
            let write = |ending: &str, text: String| {
                let path = self.path(&format!("{name}.{ending}"));
                std::fs::write(&path, text).expect("write");
                ConfigPath::new(path)
            };
            let config = TlsConfig {
                certificate: write("pem", certificate.pem()),
                key: write("key", key.serialize_pem()),
                ca: Some(ConfigPath::new(self.ca())),
            };
            (certificate.der().to_vec(), config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Pki;
    use super::*;
    use crate::config::ConfigPath;

    #[test]
    fn a_member_certificate_names_one_member() {
        let pki = Pki::new();
        let member = |uris: &[&str]| member_identity(&pki.issue("m", uris).0).map(|code| code.to_string());
        assert_eq!(member(&["urn:httt:member:H24.12.05"]).as_deref(), Some("H24.12.05"));
        assert_eq!(member(&["https://example.vn/", "urn:httt:member:TW"]).as_deref(), Some("TW"));
        assert_eq!(member(&[]), None);
        assert_eq!(member(&["urn:httt:member:"]), None);
        assert_eq!(member(&["urn:httt:member:h24"]), None);
        assert_eq!(member(&["urn:httt:member:H24", "urn:httt:member:TW"]), None);
        assert_eq!(member(&["urn:httt:member:H24", "urn:httt:member:h25"]), None);
        assert_eq!(member_identity(b"no certificate"), None);
    }

    #[test]
    fn errors_name_the_file() {
        let pki = Pki::new();
        let (_, good) = pki.issue("good", &[]);
        let (_, other) = pki.issue("other", &[]);
        assert!(server_config(&good, ClientAuth::Required).is_ok());
        assert!(client_config(&good).is_ok());
        assert!(read_pem(&good.key).expect("text").starts_with("-----BEGIN"));
        assert!(read_pem(&pki.path("gone.pem")).expect_err("missing").to_string().contains("gone.pem"));

        let refusal = |config: &TlsConfig| server_config(config, ClientAuth::None).expect_err("refused").to_string();
        let missing = TlsConfig { certificate: ConfigPath::new(pki.path("gone.pem")), ..good.clone() };
        assert!(refusal(&missing).contains("gone.pem"));
        let crossed = TlsConfig { key: other.key.clone(), ..good.clone() };
        let text = refusal(&crossed);
        assert!(text.contains("good.pem") && text.contains("other.key"), "{text}");
        let swapped = TlsConfig { certificate: good.key.clone(), ..good.clone() };
        assert!(refusal(&swapped).contains("holds no certificate"));
        let keyless = TlsConfig { key: good.certificate.clone(), ..good.clone() };
        assert!(refusal(&keyless).contains("private key"));
    }

    #[test]
    fn required_client_certificates_need_an_authority() {
        let pki = Pki::new();
        let (_, config) = pki.issue("server", &[]);
        let config = TlsConfig { ca: None, ..config };
        assert!(matches!(server_config(&config, ClientAuth::Required), Err(TlsError::NoAuthority { .. })));
        assert!(matches!(server_config(&config, ClientAuth::Optional), Err(TlsError::NoAuthority { .. })));
        assert!(server_config(&config, ClientAuth::None).is_ok());
        assert!(matches!(client_config(&config), Err(TlsError::NoAuthority { .. })));
    }
}
