//! Where a chunk is: among the live ones in `DIR/chunks`, thinned or not, or in the archive folder. The one place that
//! knows.
//!
//! ```text
//! DIR/chunks/00000007.chunk      a live chunk; it counts even if a thinned one or a stub is there as well
//! DIR/chunks/00000005.thin       what is left of a chunk of which entries went by retention; it counts before a stub
//! DIR/chunks/00000003.archived   stub of a chunk that was moved: its header, size, SHA-256 and last position
//! DIR/archive                    text: the path of the archive folder (or the folder itself, or a link to it)
//! ARCHIVE/00000003.chunk         the chunk, byte for byte
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use httt_feed::Digest;
use serde::{Deserialize, Serialize};

use crate::frame::{ChunkHeader, FORMAT_VERSION, chunk_name, chunk_number};

/// Name, in the log's folder, of the file that says where archived chunks are.
pub(crate) const ARCHIVE_FILE: &str = "archive";
/// Longest path in that file.
const MAX_PATH_BYTES: u64 = 4_096;
/// Largest stub read.
const MAX_STUB_BYTES: u64 = 4_096;

/// What stands in place of an archived chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stub {
    /// Version of the chunk's format.
    pub(crate) format: u32,
    /// 32 hexadecimal digits.
    pub(crate) log_id: String,
    /// The chunk's number.
    pub(crate) chunk: u32,
    /// Position of its first entry.
    pub(crate) first_position: u64,
    /// Position of the entry after its last one.
    pub(crate) next_position: u64,
    /// When it was created, Unix milliseconds.
    pub(crate) created_ms: i64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub(crate) sha256: String,
}

impl Stub {
    /// The header of the chunk it stands for; `None`: the stub makes no sense.
    pub(crate) fn header(&self) -> Option<ChunkHeader> {
        let mut log_id = [0; 16];
        hex::decode_to_slice(&self.log_id, &mut log_id).ok()?;
        self.sha256.parse::<Digest>().ok()?;
        let Self { chunk: number, first_position, created_ms, .. } = *self;
        (self.format == FORMAT_VERSION && first_position <= self.next_position).then_some(ChunkHeader {
            log_id,
            number,
            first_position,
            created_ms,
        })
    }
}

fn stub_name(number: u32) -> String {
    format!("{number:08}.archived")
}

/// File name of a thinned chunk.
pub(crate) fn thin_name(number: u32) -> String {
    format!("{number:08}.thin")
}

/// Where a chunk is, or would be, once it is thinned.
pub(crate) fn thin_path(chunks: &Path, number: u32) -> PathBuf {
    chunks.join(thin_name(number))
}

/// File name of a chunk as an error is to name it.
pub(crate) fn name(number: u32, thin: bool) -> String {
    if thin { thin_name(number) } else { chunk_name(number) }
}

/// The number of the chunk whose file, thinned or not, or whose stub, has this name.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    match name.strip_suffix(".archived").or_else(|| name.strip_suffix(".thin")) {
        Some(digits) => chunk_number(&format!("{digits}.chunk")),
        None => chunk_number(name),
    }
}

/// Where the stub of a chunk is, or would be.
pub(crate) fn stub_path(chunks: &Path, number: u32) -> PathBuf {
    chunks.join(stub_name(number))
}

/// Whether a chunk is archived: there is a stub and no live file.
pub(crate) fn is_archived(chunks: &Path, number: u32) -> bool {
    !chunks.join(chunk_name(number)).exists()
        && !thin_path(chunks, number).exists()
        && stub_path(chunks, number).exists()
}

/// Whether what there is of a chunk is thinned.
pub(crate) fn is_thin(chunks: &Path, number: u32) -> bool {
    !chunks.join(chunk_name(number)).exists() && thin_path(chunks, number).exists()
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("{} is longer than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads the stub of a chunk; `Ok(None)`: there is none, `Ok(Some(Err))`: it makes no sense.
pub(crate) fn stub(chunks: &Path, number: u32) -> io::Result<Option<Result<Stub, String>>> {
    let bytes = match read_limited(&stub_path(chunks, number), MAX_STUB_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    Ok(Some(match serde_json::from_slice::<Stub>(&bytes) {
        Ok(stub) if stub.chunk == number && stub.header().is_some() => Ok(stub),
        Ok(_) => Err("it is not of this chunk, or makes no sense".to_owned()),
        Err(error) => Err(error.to_string()),
    }))
}

/// The archive folder of the log whose chunks are in `chunks`, as `DIR/archive` says; it may not be there.
pub(crate) fn archive_folder(chunks: &Path) -> io::Result<PathBuf> {
    let file = chunks.parent().unwrap_or(Path::new(".")).join(ARCHIVE_FILE);
    if file.is_dir() {
        return Ok(file);
    }
    match read_limited(&file, MAX_PATH_BYTES) {
        Ok(bytes) => Ok(PathBuf::from(OsStr::from_bytes(bytes.trim_ascii()))),
        // Whoever looks for a chunk there is told this path, which is where the answer has to be put.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(file),
        Err(error) => Err(error),
    }
}

/// The file of a chunk: the live one, thinned or not, or the archived one if there is only a stub.
pub(crate) fn path(chunks: &Path, number: u32) -> io::Result<PathBuf> {
    let name = chunk_name(number);
    if is_thin(chunks, number) {
        return Ok(thin_path(chunks, number));
    }
    if is_archived(chunks, number) {
        return Ok(archive_folder(chunks)?.join(name));
    }
    Ok(chunks.join(name))
}

/// Opens the file of a chunk to read it.
pub(crate) fn open(chunks: &Path, number: u32) -> io::Result<File> {
    match File::open(path(chunks, number)?) {
        // It may have been archived or thinned between the two.
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(path(chunks, number)?),
        opened => opened,
    }
}

/// Where an archived chunk should be and is not; `None`: it is not archived, or is there.
pub(crate) fn missing(chunks: &Path, number: u32) -> Option<PathBuf> {
    let path = is_archived(chunks, number).then(|| path(chunks, number)).and_then(Result::ok)?;
    (!path.is_file()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_chunks_and_stubs_read_back() {
        assert_eq!(number_of(&stub_name(42)), Some(42));
        assert_eq!(number_of(&chunk_name(42)), Some(42));
        assert_eq!(number_of(&thin_name(42)), Some(42));
        for bad in ["42.archived", "00000042.thin.new", "00000042", "00000042.archived.new", "checkpoint"] {
            assert_eq!(number_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_live_chunk_counts_before_the_thinned_one_and_that_before_the_stub() {
        let dir = tempfile::tempdir().expect("dir");
        let chunks = dir.path().join("chunks");
        std::fs::create_dir(&chunks).expect("create");
        std::fs::write(stub_path(&chunks, 1), "{").expect("write");
        std::fs::write(dir.path().join(ARCHIVE_FILE), "/far/away\n").expect("write");
        assert_eq!(path(&chunks, 1).expect("path"), Path::new("/far/away/00000001.chunk"));
        assert_eq!(missing(&chunks, 1).expect("missing"), Path::new("/far/away/00000001.chunk"));
        std::fs::write(chunks.join(chunk_name(1)), "x").expect("write");
        assert_eq!(path(&chunks, 1).expect("path"), chunks.join(chunk_name(1)));
        assert_eq!(missing(&chunks, 1), None);
        std::fs::write(thin_path(&chunks, 1), "x").expect("write");
        assert_eq!(path(&chunks, 1).expect("path"), chunks.join(chunk_name(1)));
        std::fs::remove_file(chunks.join(chunk_name(1))).expect("remove");
        assert_eq!(path(&chunks, 1).expect("path"), thin_path(&chunks, 1));
        assert_eq!((is_archived(&chunks, 1), missing(&chunks, 1)), (false, None));
        assert!(matches!(stub(&chunks, 1), Ok(Some(Err(_)))));
        assert!(matches!(stub(&chunks, 2), Ok(None)));
    }
}
