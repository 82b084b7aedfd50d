//! Which chunks there are, by name and header.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, HeaderFault, Seed, chunk_name};
use crate::recover::ChunkFile;
use crate::{Damage, OpenError, places, scan};

/// The chunks in order.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) chunks: Vec<ChunkFile>,
    /// A last chunk whose creation a crash interrupted: it has no header and holds nothing.
    pub(crate) torn: Option<PathBuf>,
}

/// File numbers in `dir`, in order.
pub(crate) fn numbers(dir: &Path) -> std::io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        if let Some(number) = item.file_name().to_str().and_then(places::number_of) {
            numbers.push(number);
        } else {
            tracing::warn!(file = %item.path().display(), "not a chunk; left alone");
        }
    }
    numbers.sort_unstable();
    // A chunk, the thinned one and its stub are one.
    numbers.dedup();
    Ok(numbers)
}

/// Reads all headers. Numbers must follow one another from 0, and all headers must be of one log.
pub(crate) fn read(dir: &Path) -> Result<Catalogue, OpenError> {
    let numbers = numbers(dir).map_err(OpenError::io(format!("listing {}", dir.display())))?;
    let mut catalogue = Catalogue { chunks: Vec::with_capacity(numbers.len()), torn: None };
    for (expected, number) in (0..).zip(&numbers) {
        let before = catalogue.chunks.last().map(|chunk: &ChunkFile| chunk.header);
        let position = before.map_or(0, |header| header.first_position);
        let damage = |chunk: u32, what: String| {
            let chunk = places::name(chunk, places::is_thin(dir, chunk));
            Damage { chunk, offset: 0, position, what }
        };
        if *number != expected {
            return Err(damage(expected, "the chunk is missing".into()).into());
        }
        let reading = || OpenError::io(format!("reading {}", chunk_name(*number)));
        let look = || {
            let (archived, thin) = (places::is_archived(dir, *number), places::is_thin(dir, *number));
            let path = places::path(dir, *number)?;
            let header = if archived { stub_header(dir, *number) } else { scan::read_header(&path) }?;
            Ok::<_, io::Error>((archived, thin, path, header))
        };
        let (archived, thin, path, header) = match look() {
            // It may have been archived or thinned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => look(),
            found => found,
        }
        .map_err(reading())?;
        let header = match header {
            Some(Ok(header)) => header,
            Some(Err(HeaderFault::Version(version))) => {
                return Err(OpenError::Format { chunk: chunk_name(*number), version });
            }
            None | Some(Err(HeaderFault::Unreadable)) => {
                // A header is synced before anything follows it. Where something follows, it was good once.
                let is_last = *number as usize + 1 == numbers.len() && !archived && !thin;
                let longer = fs::metadata(&path).is_ok_and(|data| data.len() > CHUNK_HEADER_BYTES as u64);
                let holds = longer && (before.is_none() || holds_frame(&path, before.map(|header| header.log_id))?);
                if is_last && !holds {
                    catalogue.torn = Some(path);
                    break;
                }
                return Err(damage(*number, "the chunk's header is unreadable".into()).into());
            }
        };
        if header.number != *number {
            let what = format!("the file holds chunk {}", header.number);
            return Err(damage(*number, what).into());
        }
        if let Some(before) = before {
            if header.log_id != before.log_id {
                return Err(damage(*number, "the chunk belongs to another log".into()).into());
            }
            if header.first_position < before.first_position {
                return Err(damage(*number, "the chunk begins before the one before it".into()).into());
            }
        } else if header.first_position != 0 {
            return Err(damage(*number, "the first chunk does not begin at position 0".into()).into());
        }
        catalogue.chunks.push(ChunkFile { path, header, archived, thin });
    }
    // Only full chunks are thinned, and the newest of them never is.
    if let Some(last) = catalogue.chunks.last().filter(|last| last.thin) {
        let (chunk, position) = (last.name(), last.header.first_position);
        let what = "the chunk after this thinned one is missing".to_owned();
        return Err(Damage { chunk, offset: 0, position, what }.into());
    }
    Ok(catalogue)
}

/// The header of an archived chunk, which its stub repeats: the archive may be away.
fn stub_header(dir: &Path, number: u32) -> std::io::Result<Option<Result<ChunkHeader, HeaderFault>>> {
    let stub = places::stub(dir, number)?.and_then(Result::ok);
    Ok(Some(stub.and_then(|stub| stub.header()).ok_or(HeaderFault::Unreadable)))
}

fn holds_frame(path: &Path, log_id: Option<[u8; 16]>) -> Result<bool, OpenError> {
    let Some(log_id) = log_id else { return Ok(false) };
    let found = scan::find_frame(path, Seed::of(&log_id), 0, |_| true);
    Ok(found.map_err(OpenError::io(format!("reading {}", path.display())))?.is_some())
}
