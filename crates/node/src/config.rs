//! Configuration: one TOML file a service, read strictly.
//!
//! [`load`] refuses what it does not know (types carry `#[serde(deny_unknown_fields)]`) and says file, line, column,
//! key and remedy. A path in a configuration is a [`ConfigPath`], relative to the file that names it; a secret is a
//! [`Secret`], never written in the file itself.

mod path;
mod secret;
mod sections;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use path::ConfigPath;
pub use secret::{MAX_SECRET_BYTES, Secret, SecretText};
pub use sections::{AccountsConfig, HttpConfig, LogFormat, TelemetryConfig, TlsConfig};

/// Largest configuration file: an account file of a whole province fits many times over.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or unreadable.
    #[error("cannot read the configuration {}: {source}; check the path and that this account may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`MAX_CONFIG_BYTES`].
    #[error("{} is larger than {MAX_CONFIG_BYTES} bytes, so it is hardly a configuration; check the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{} is not UTF-8 text; save it as UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Syntax, an unknown or missing key, a value out of range.
    #[error("{}:{line}:{column}: {}{message}; {remedy}", path.display(), in_key(key))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// 1-based; where the trouble begins.
        line: usize,
        /// 1-based, in characters.
        column: usize,
        /// The key, `http.tls.key`; empty when the trouble is the file's syntax or its top level.
        key: String,
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A rule across keys is broken; made by the services' own checks.
    #[error("{}: {message}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A secret's file or variable is missing, empty or too long.
    #[error("cannot read the secret from {place}: {problem}")]
    Secret {
        /// `file "…"` or `environment variable …`.
        place: String,
        /// What is wrong and what to do; never the secret.
        problem: String,
    },
}

fn in_key(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// Reads a configuration. Every [`ConfigPath`] in it comes back joined to the file's own folder.
///
/// Blocking; services call it before anything else runs.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let _base = path::enter(folder);
    let invalid = |key: String, error: &toml::de::Error| {
        let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
        let message = error.message().trim().replace('\n', ", ");
        let remedy = remedy(&message);
        ConfigError::Invalid { path: path.to_owned(), line, column, key, message, remedy }
    };
    let document = toml::Deserializer::parse(&text).map_err(|error| invalid(String::new(), &error))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let key = error.path().to_string();
        invalid(if key == "." { String::new() } else { key }, error.inner())
    })
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.to_owned() })
}

/// Line and column, both from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn remedy(message: &str) -> &'static str {
    if message.starts_with("unknown field") {
        "correct the key's spelling or remove it"
    } else if message.starts_with("missing field") {
        "add the key"
    } else if message.starts_with("duplicate") {
        "keep one of them"
    } else {
        "correct it; the sample configuration shows every key"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        data: ConfigPath,
        #[serde(default)]
        telemetry: TelemetryConfig,
        http: Option<HttpConfig>,
        password: Option<Secret>,
    }

    fn sample(text: &str) -> (tempfile::TempDir, Result<Sample, ConfigError>) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).expect("write");
        let loaded = load(&path);
        (folder, loaded)
    }

    fn refusal(text: &str) -> String {
        sample(text).1.expect_err("refused").to_string()
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let (folder, loaded) = sample(
            "data = 'var/log'\npassword = { file = 'pw' }\n[http]\nlisten = '127.0.0.1:8443'\n\
             [http.tls]\ncertificate = 'a.pem'\nkey = '/etc/k.pem'\n",
        );
        std::fs::write(folder.path().join("pw"), "mật khẩu\n").expect("write");
        let loaded = loaded.expect("loads");
        assert_eq!(&*loaded.data, folder.path().join("var/log"));
        let tls = loaded.http.expect("http").tls.expect("tls");
        assert_eq!(&*tls.certificate, folder.path().join("a.pem"));
        assert_eq!(&*tls.key, Path::new("/etc/k.pem"));
        assert!(tls.ca.is_none());
        let secret = loaded.password.expect("secret");
        assert_eq!(secret.read().expect("readable").expose(), "mật khẩu");
        assert_eq!(loaded.telemetry, TelemetryConfig::default());
    }

    #[test]
    fn errors_name_place_key_and_remedy() {
        let text = refusal("data = 'x'\n[http]\nlisten = '127.0.0.1:1'\nlisten_port = 3\n");
        assert!(text.contains("node.toml:4:1: "), "{text}");
        assert!(text.contains("unknown field `listen_port`"), "{text}");
        assert!(text.contains("remove it"), "{text}");

        let text = refusal("data = 'x'\nhttp = { listen = 'nowhere' }\n");
        assert!(text.contains(":2:19: http.listen: "), "{text}");

        let text = refusal("[telemetry]\n");
        assert!(text.contains("missing field `data`") && text.contains("add the key"), "{text}");

        let text = refusal("data = \n");
        assert!(text.contains("node.toml:1:"), "{text}");

        assert!(refusal("data = 'x'\n[telemetry]\nlog_format = 'xml'\n").contains("telemetry.log_format"));
    }

    #[test]
    fn an_inline_secret_is_refused_without_repeating_it() {
        for text in ["data = 'x'\npassword = 'hunter2'\n", "data = 'x'\npassword = { value = 'hunter2' }\n"] {
            let refusal = refusal(text);
            assert!(!refusal.contains("hunter2"), "{refusal}");
            assert!(refusal.contains(":2:") && refusal.contains("password"), "{refusal}");
        }
        let both = refusal("data = 'x'\npassword = { file = 'a', env = 'B' }\n");
        assert!(both.contains("either"), "{both}");
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.toml");
        assert!(matches!(load::<Sample>(&path), Err(ConfigError::Read { .. })));
        std::fs::write(&path, [0xff, 0xfe]).expect("write");
        assert!(matches!(load::<Sample>(&path), Err(ConfigError::NotText { .. })));
        File::create(&path).and_then(|file| file.set_len(MAX_CONFIG_BYTES + 1)).expect("file");
        assert!(matches!(load::<Sample>(&path), Err(ConfigError::TooLarge { .. })));
    }
}
