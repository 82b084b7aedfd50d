//! Thinned chunks: one that is good is walked, one that is not is replaced by that of a copy of the log. They are not made
//! again from entries: what a record says of an entry that is gone is nowhere else.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::RepairError;
use super::mend::{Mended, Mender};
use crate::entry::Entry;
use crate::frame::{CHUNK_HEADER_BYTES, chunk_name};
use crate::keep::copy;
use crate::places;
use crate::scan::{self, Held, Scanner, Step};
use crate::thin::Thin;

/// Whether a file is a thinned chunk, be it a damaged one.
pub(super) fn is_thin(path: &Path) -> bool {
    let by_name = path.extension().is_some_and(|extension| extension == "thin");
    by_name || File::open(path).and_then(|file| Thin::open(&file)).is_ok_and(|thin| thin.is_some())
}

impl Mender<'_> {
    /// Walks the thinned chunk, the log's `own` one or else a copy's, which then takes its place; false: there is no good
    /// one.
    pub(super) fn thinned(&mut self, number: u32, own: Option<&Path>) -> Result<bool, RepairError> {
        let reading = |error| RepairError::io(format!("reading {}", chunk_name(number)))(error);
        if let Some(own) = own
            && self.walk_thinned(number, own).map_err(reading)?
        {
            self.teller.add(fs::metadata(own).map_or(0, |data| data.len()));
            return Ok(true);
        }
        let copies: Vec<_> = self.sources.copies.iter().filter_map(|copy| copy.file(number)).collect();
        for theirs in copies.iter().filter(|path| is_thin(path)) {
            if self.walk_thinned(number, theirs).unwrap_or(false) {
                let path = self.work.join(places::thin_name(number));
                let copied = File::open(theirs).and_then(|mut from| {
                    let mut file = copy::create(&path)?;
                    io::copy(&mut from, &mut file)?;
                    file.sync_all()
                });
                copied.map_err(RepairError::io("writing a repaired chunk"))?;
                self.mended.push(Mended { number, path, header_guessed: false, thin: true });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the entries of a thinned chunk as the next ones, if it is good and continues what came before.
    fn walk_thinned(&mut self, number: u32, path: &Path) -> io::Result<bool> {
        let header = scan::read_header(path)?.and_then(Result::ok);
        let first = self.range.size();
        let wanted = (self.log_id, number, first);
        if header.is_none_or(|header| (header.log_id, header.number, header.first_position) != wanted) {
            return Ok(false);
        }
        let mut scanner = Scanner::new(path, self.seed(), CHUNK_HEADER_BYTES as u64, first, 0)?;
        let (mut range, mut heads) = (self.range.clone(), Vec::new());
        loop {
            match scanner.step()? {
                Step::Group(group) => {
                    for entry in group.entries {
                        range.push(entry.leaf(), |_| {});
                        match entry.held {
                            Held::Whole(bytes) => {
                                let Ok(entry) = Entry::decode(entry.position, bytes) else { return Ok(false) };
                                heads.push((entry.feed, entry.sequence));
                            }
                            Held::Gone(record) => heads.push((record.entry.feed, record.entry.sequence)),
                        }
                    }
                    if range.root() != group.commit.root || self.vouchers.meet(range.size(), range.root()).is_err() {
                        return Ok(false);
                    }
                }
                Step::End => break,
                Step::Bad(_) => return Ok(false),
            }
        }
        self.range = range;
        self.heads.extend(heads);
        Ok(true)
    }
}
