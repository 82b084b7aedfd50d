//! Section `[node.media]`: where media are kept, and how much of them.

use serde::Deserialize;

use crate::config::{ConfigPath, Secret};

/// Largest media file a node keeps: an hour of good audio, some minutes of video.
const DEFAULT_MAX_FILE_BYTES: u64 = 256 << 20;
/// Most bytes of media in the node's own folder.
const DEFAULT_MAX_STORE_BYTES: u64 = 64 << 30;
/// Unfinished files of one member.
const DEFAULT_MAX_MEMBER_PARTS: usize = 32;
/// Bytes in unfinished files of one member.
const DEFAULT_MAX_MEMBER_PART_BYTES: u64 = 2 << 30;

/// Where media are kept, and how much of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediaConfig {
    /// Largest file, bytes.
    pub max_file_bytes: u64,
    /// Most bytes in the folder `media` of `data_dir`, unfinished files among them. With `s3` the folder is a cache.
    pub max_store_bytes: u64,
    /// Unfinished files of one member.
    pub max_member_parts: usize,
    /// Bytes in unfinished files of one member.
    pub max_member_part_bytes: u64,
    /// What keeps complete files.
    pub store: StoreKind,
    /// The bucket, with `store = "s3"`.
    pub s3: Option<S3Config>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            max_file_bytes: DEFAULT_MAX_FILE_BYTES,
            max_store_bytes: DEFAULT_MAX_STORE_BYTES,
            max_member_parts: DEFAULT_MAX_MEMBER_PARTS,
            max_member_part_bytes: DEFAULT_MAX_MEMBER_PART_BYTES,
            store: StoreKind::Folder,
            s3: None,
        }
    }
}

/// What keeps complete files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// The folder `media` of `data_dir`.
    #[default]
    Folder,
    /// An S3-compatible bucket; the folder is its cache.
    S3,
}

/// An S3-compatible bucket, spoken to in path style.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// `https://host[:port]`; `http://` on a loopback address alone.
    pub endpoint: String,
    /// Its name.
    pub bucket: String,
    /// Begins the keys of this node's objects, so that several nodes may share a bucket. Default none.
    #[serde(default)]
    pub prefix: String,
    /// Signed with every request. Default `us-east-1`, which most servers other than Amazon's take.
    #[serde(default = "default_region")]
    pub region: String,
    /// Access key, from a file or the environment.
    pub access_key: Secret,
    /// Its secret, from a file or the environment.
    pub secret_key: Secret,
    /// The authorities that the endpoint's certificate must come from, PEM; needed with `https://`.
    #[serde(default)]
    pub ca: Option<ConfigPath>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

impl MediaConfig {
    /// The folder alone, with these limits.
    pub fn folder(max_file_bytes: u64, max_store_bytes: u64) -> Self {
        Self { max_file_bytes, max_store_bytes, ..Self::default() }
    }

    /// What keeps any file from fitting; the key and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let at_least = |key, value: u64| {
            let least = self.max_file_bytes;
            (value < least).then(|| (key, format!("{value} is less than max_file_bytes, {least}; raise it")))
        };
        let problem = (self.max_file_bytes == 0)
            .then(|| ("max_file_bytes", "0 lets no file in; raise it".to_owned()))
            .or_else(|| at_least("max_store_bytes", self.max_store_bytes))
            .or_else(|| at_least("max_member_part_bytes", self.max_member_part_bytes))
            .or_else(|| (self.max_member_parts == 0).then(|| ("max_member_parts", "1 at least".to_owned())))
            .or_else(|| {
                let missing = self.store == StoreKind::S3 && self.s3.is_none();
                missing.then(|| ("s3", "store = \"s3\" needs the section [node.media.s3]".to_owned()))
            });
        problem.map_or(Ok(()), Err)
    }
}
