//! A platform (LGSP) as the way up: what `[upstream]` says of it.

use httt_exchange::rest::{Credentials, RestPeer};
use serde::Deserialize;

use super::{UpstreamConfig, UpstreamError, http_send};
use crate::client::HttpClient;
use crate::config::Secret;
use crate::tls;

/// What a platform knows this node by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestAuth {
    /// OAuth2 client credentials: `client_id`, `client_secret`.
    #[default]
    OAuth2,
    /// Headers on every call: `app_name`, `access_key`, `secret_key`.
    Headers,
}

/// The platform that `config` names.
///
/// # Errors
/// A key that is missing or of no use, or a secret that cannot be read.
pub(super) fn peer(config: &UpstreamConfig, tls: &tls::TlsConfig) -> Result<RestPeer, UpstreamError> {
    let credentials = match config.auth {
        RestAuth::OAuth2 => Credentials::OAuth2 {
            client_id: text(&config.client_id, "client_id")?,
            client_secret: secret(&config.client_secret, "client_secret")?,
        },
        RestAuth::Headers => Credentials::Headers {
            app_name: text(&config.app_name, "app_name")?,
            access_key: text(&config.access_key, "access_key")?,
            secret_key: secret(&config.secret_key, "secret_key")?,
        },
    };
    // A client has its own connections.
    let send = || Ok::<_, UpstreamError>(http_send(HttpClient::new(tls::client_config(tls)?)));
    Ok(RestPeer::new(&config.address, credentials, config.body, send()?, send()?))
}

fn text(value: &Option<String>, key: &'static str) -> Result<String, UpstreamError> {
    let value = value.as_ref().ok_or(UpstreamError::Missing(key))?;
    in_header(value, key)
}

fn secret(value: &Option<Secret>, key: &'static str) -> Result<String, UpstreamError> {
    let value = value.as_ref().ok_or(UpstreamError::Missing(key))?;
    let value = value.read().map_err(|error| UpstreamError::Secret { key, cause: error.to_string() })?;
    in_header(value.expose(), key)
}

/// What cannot stand in a header would only fail at the first call, and say less.
fn in_header(value: &str, key: &'static str) -> Result<String, UpstreamError> {
    let fits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if fits { Ok(value.to_owned()) } else { Err(UpstreamError::NoHeader(key)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigPath, TlsConfig};

    #[test]
    fn what_is_missing_is_named_with_its_kind_of_credentials() {
        let nowhere = || ConfigPath::new("/nowhere");
        let tls = TlsConfig { certificate: nowhere(), key: nowhere(), ca: None };
        let from_path = "{ env = 'PATH' }";
        for (keys, told) in [
            (String::new(), "client_id is missing"),
            ("client_id = 'h24'".into(), "client_secret is missing"),
            (format!("client_id = 'bảng'\nclient_secret = {from_path}"), "client_id has characters"),
            ("client_id = 'h24'\nclient_secret = { file = '/nowhere' }".into(), "client_secret: "),
            ("auth = 'headers'\nclient_id = 'h24'".into(), "app_name is missing"),
            ("auth = 'headers'\napp_name = 'httt'".into(), "access_key is missing"),
            ("auth = 'headers'\napp_name = 'httt'\naccess_key = 'K1'".into(), "secret_key is missing"),
        ] {
            let text = format!("kind = 'rest'\naddress = 'https://lgsp'\n{keys}");
            let config: UpstreamConfig = toml::from_str(&text).expect("TOML");
            let error = peer(&config, &tls).map(|_| ()).expect_err(told).to_string();
            assert!(error.starts_with("[upstream] ") && error.contains(told), "{error}");
        }
        let config = "kind = 'rest'\naddress = 'https://lgsp'\nbody = 'xml'";
        assert!(toml::from_str::<UpstreamConfig>(config).is_err());
    }
}
