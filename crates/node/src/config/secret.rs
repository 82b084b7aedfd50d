//! Secrets: named in a configuration, kept elsewhere.

use std::fmt;
use std::fs::File;
use std::io::Read;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ConfigError, ConfigPath};

/// Longest secret: more than any token or passphrase, less than a file named by mistake.
pub const MAX_SECRET_BYTES: u64 = 64 << 10;

const HOW: &str = "name it with { file = \"…\" } or { env = \"…\" }";

/// Where a secret is kept: `{ file = "…" }` or `{ env = "…" }`. Reading a configuration does not read its secrets, so
/// a sample configuration can be checked where they do not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(ConfigPath),
    Environment(String),
}

/// A secret's text. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl Secret {
    /// A secret kept in a file.
    pub fn in_file(path: impl Into<std::path::PathBuf>) -> Self {
        Self(Place::File(ConfigPath::new(path)))
    }

    /// Reads the secret, without the line break that editors leave at the end. An empty one is an error. Blocking.
    pub fn read(&self) -> Result<SecretText, ConfigError> {
        let failed = |problem: String| ConfigError::Secret { place: self.to_string(), problem };
        let text = match &self.0 {
            Place::Environment(name) => {
                std::env::var(name).map_err(|error| failed(format!("{error}; set it for the service")))?
            }
            Place::File(path) => {
                let mut bytes = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes))
                    .map_err(|error| failed(format!("{error}; create it, readable by the service alone")))?;
                if bytes.len() as u64 > MAX_SECRET_BYTES {
                    return Err(failed(format!("longer than {MAX_SECRET_BYTES} bytes; check the path")));
                }
                String::from_utf8(bytes).map_err(|_| failed("not UTF-8 text".to_owned()))?
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        Ok(SecretText(text.to_owned()))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => write!(f, "file {path:?}"),
            Place::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl SecretText {
    /// For a secret made in code.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: keep it out of messages.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// By hand, because the derived error for a string would repeat the string.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = \"…\" } or { env = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Secret, E> {
        Err(E::custom(format!("a secret is not written in a configuration, {HOW}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let place = match key.as_str() {
                "file" => Place::File(map.next_value()?),
                "env" => Place::Environment(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    return Err(de::Error::custom(format!("unknown key {key:?} for a secret, {HOW}")));
                }
            };
            if found.replace(place).is_some() {
                return Err(de::Error::custom("a secret has either a file or a variable, not both"));
            }
        }
        found.map(Secret).ok_or_else(|| de::Error::custom(format!("the secret is nowhere, {HOW}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_and_never_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("token");
        let secret = Secret::in_file(&path);
        assert!(secret.read().expect_err("missing").to_string().contains("token"));
        std::fs::write(&path, "\n").expect("write");
        assert!(secret.read().expect_err("empty").to_string().contains("empty"));
        std::fs::write(&path, "s3cret\r\n").expect("write");
        let text = secret.read().expect("readable");
        assert_eq!(text.expose(), "s3cret");
        assert!(!format!("{text:?}{secret:?}{secret}").contains("s3cret"));
    }

    #[test]
    fn a_secret_is_read_from_the_environment() {
        let present = Secret(Place::Environment("PATH".to_owned()));
        assert!(present.read().is_ok());
        let absent = Secret(Place::Environment("HTTT_NO_SUCH_VARIABLE".to_owned()));
        assert!(absent.read().expect_err("absent").to_string().contains("HTTT_NO_SUCH_VARIABLE"));
    }
}
