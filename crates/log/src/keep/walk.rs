//! Walks one chunk and checks what can be checked without a key: frames, commit markers, Merkle roots.

use std::io;
use std::path::Path;

use httt_feed::Digest;

use super::{KeepError, Vouchers};
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, Seed, chunk_name};
use crate::merkle::CompactRange;
use crate::scan::{LiveStep, Scanner, Step};
use crate::{Damage, places};

/// Where the good groups of a chunk end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) offset: u64,
    /// The position that comes next.
    pub(super) position: u64,
    /// Merkle root of all entries up to there, as the last commit marker says.
    pub(super) root: Option<Digest>,
    /// When the last group was committed, Unix milliseconds.
    pub(super) at_ms: Option<i64>,
}

fn reading(number: u32) -> impl Fn(io::Error) -> KeepError {
    move |error| KeepError::io(format!("reading {}", chunk_name(number)))(error)
}

/// Walks the chunk in `path` from its first group up to byte `end`, adding its entries to `range`, which holds those
/// before it. Everything up to there must be good.
pub(super) fn walk(
    path: &Path,
    header: &ChunkHeader,
    end: u64,
    range: &mut CompactRange,
    vouchers: &mut Vouchers,
) -> Result<End, KeepError> {
    let number = header.number;
    let seed = Seed::of(&header.log_id);
    let mut scanner =
        Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, header.first_position, 0).map_err(reading(number))?;
    let chunk = places::name(number, scanner.is_thin());
    let damage = |offset: u64, position: u64, what: &str| Damage {
        chunk: chunk.clone(),
        offset,
        position,
        what: what.to_owned(),
    };
    let first = range.size();
    if header.first_position != first {
        let what = format!("the chunk begins at position {}, the one before it ends at {first}", header.first_position);
        return Err(damage(0, first, &what).into());
    }
    let (mut at_ms, mut root) = (None, None);
    while scanner.offset() < end {
        match scanner.step().map_err(reading(number))? {
            Step::Group(group) => {
                group.entries.iter().for_each(|entry| range.push(entry.leaf(), |_| {}));
                if range.root() != group.commit.root {
                    let what = "the commit marker says another Merkle root than the entries up to it have";
                    return Err(damage(group.marker_at, range.size(), what).into());
                }
                vouchers.meet(range.size(), group.commit.root)?;
                (at_ms, root) = (Some(group.commit.at_ms), Some(group.commit.root));
            }
            Step::End => break,
            Step::Bad(bad) => return Err(damage(bad.offset, bad.position, bad.what).into()),
        }
    }
    Ok(End { offset: scanner.offset(), position: scanner.position(), root, at_ms })
}

/// Where the last chunk's good groups end at this moment; a node may be writing behind it.
pub(super) fn committed_end(path: &Path, header: &ChunkHeader) -> Result<End, KeepError> {
    let number = header.number;
    let (seed, first) = (Seed::of(&header.log_id), header.first_position);
    let mut scanner = Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, first, 0).map_err(reading(number))?;
    let (mut at_ms, mut root) = (None, None);
    loop {
        match scanner.step_live(path).map_err(reading(number))? {
            LiveStep::Group(group) => (at_ms, root) = (Some(group.commit.at_ms), Some(group.commit.root)),
            LiveStep::End | LiveStep::Unfinished(_) => {
                return Ok(End { offset: scanner.offset(), position: scanner.position(), root, at_ms });
            }
            LiveStep::Damaged(bad) => {
                let what = format!("{}, and a later group follows", bad.what);
                let (offset, position) = (bad.offset, bad.position);
                return Err(Damage { chunk: chunk_name(number), offset, position, what }.into());
            }
        }
    }
}
