//! Reading: index rows say where, the chunk says what.

use httt_feed::{AgencyCode, Digest, FeedId};
use uuid::Uuid;

use crate::ReadError;
use crate::chunks::Location;
use crate::entry::{Direction, Entry, EventPage, EventPosition, Filter, RecordedEvent};
use crate::index::rows;
use crate::shared::Shared;

/// Index rows fetched at a time.
const PAGE_ROWS: usize = 256;
/// Most entries one call of `events` looks at.
pub const MAX_SCAN_ENTRIES: usize = 16_384;

impl Shared {
    /// The entry at `position`, if it is durable.
    pub(crate) fn entry(&self, position: u64) -> Result<Option<Entry>, ReadError> {
        match rows::location(self.index.as_ref(), position)? {
            Some((at, _)) => self.chunks.entry(at, position).map(Some),
            None if position < self.length() => Err(self.unknown(position)),
            None => Ok(None),
        }
    }

    fn unknown(&self, position: u64) -> ReadError {
        ReadError::Index(format!("it does not know entry {position} of {}", self.length()))
    }

    /// Gives the entries of `rows`, which are to start at `expected` and go `step` by `step`, to `take` until that
    /// says to stop; true if it did.
    fn each(
        &self,
        rows: &[(u64, Location)],
        mut expected: u64,
        forward: bool,
        take: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<bool, ReadError> {
        for (position, at) in rows {
            if *position != expected {
                return Err(self.unknown(expected));
            }
            expected = if forward { expected + 1 } else { expected.wrapping_sub(1) };
            if !take(self.chunks.entry(*at, *position)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Entries from `from` on, until `take` says to stop.
    fn walk_forward(&self, mut from: u64, take: &mut dyn FnMut(Entry) -> bool) -> Result<(), ReadError> {
        let length = self.length();
        while from < length {
            let rows = rows::locations(self.index.as_ref(), from, length, PAGE_ROWS)?;
            if rows.is_empty() {
                return Err(self.unknown(from));
            }
            if self.each(&rows, from, true, take)? {
                return Ok(());
            }
            from += rows.len() as u64;
        }
        Ok(())
    }

    /// Entries before `before`, newest first, until `take` says to stop.
    fn walk_backward(&self, before: u64, take: &mut dyn FnMut(Entry) -> bool) -> Result<(), ReadError> {
        let mut before = before.min(self.length());
        while before > 0 {
            let rows = rows::locations_backward(self.index.as_ref(), 0, before, PAGE_ROWS)?;
            if rows.is_empty() {
                return Err(self.unknown(before - 1));
            }
            if self.each(&rows, before - 1, false, take)? {
                return Ok(());
            }
            before -= rows.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn read(
        &self,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        direction: Direction,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut take = |entry: Entry| {
            bytes += entry.bytes.len();
            let fits = entries.is_empty() || bytes <= max_bytes;
            if fits {
                entries.push(entry);
            }
            fits && entries.len() < max_entries && bytes < max_bytes
        };
        if max_entries > 0 {
            match direction {
                Direction::Forward => self.walk_forward(from, &mut take)?,
                Direction::Backward => self.walk_backward(from, &mut take)?,
            }
        }
        Ok(entries)
    }

    pub(crate) fn read_feed(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let Some(head) = self.head(feed) else { return Ok(Vec::new()) };
        let (mut entries, mut bytes, mut after) = (Vec::<Entry>::new(), 0, after);
        loop {
            let rows = rows::batches(self.index.as_ref(), feed, after, head.sequence, PAGE_ROWS)?;
            if rows.is_empty() && after < head.sequence {
                return Err(ReadError::Index(format!("it does not know sequence {} of {feed}", after + 1)));
            }
            for row in &rows {
                let entry = self.entry(row.position)?.ok_or_else(|| self.unknown(row.position))?;
                after += 1;
                if entry.feed != *feed || entry.sequence != after || entry.digest != row.digest {
                    return Err(ReadError::Index(format!("it names another batch for sequence {after} of {feed}")));
                }
                bytes += entry.bytes.len();
                if !entries.is_empty() && bytes > max_bytes {
                    return Ok(entries);
                }
                entries.push(entry);
            }
            if after >= head.sequence || bytes >= max_bytes {
                return Ok(entries);
            }
        }
    }

    pub(crate) fn batch_digest(&self, feed: &FeedId, sequence: u64) -> Result<Option<Digest>, ReadError> {
        Ok(rows::batch(self.index.as_ref(), feed, sequence)?.map(|row| row.digest))
    }

    pub(crate) fn read_stream(
        &self,
        origin: &AgencyCode,
        stream: &str,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut found = Vec::new();
        if max == 0 {
            return Ok(found);
        }
        let index = self.index.as_ref();
        let backward = direction == Direction::Backward;
        let after = from.saturating_add(1);
        // The run that holds `from` begins at or before it.
        let mut runs = rows::stream_runs(index, origin, stream, 0, after, true, if backward { PAGE_ROWS } else { 1 })?;
        let mut more = if backward { Some((0, 0)) } else { Some((after, u64::MAX)) };
        loop {
            let mut edge = None;
            for (version, run) in &runs {
                let entry = self.entry(run.entry)?.ok_or_else(|| self.unknown(run.entry))?;
                let events = entry.batch.events.iter().enumerate().skip(run.index as usize).filter(|(_, event)| {
                    event.stream == stream && if backward { event.version <= from } else { event.version >= from }
                });
                let mut events: Vec<_> = events.map(|(index, event)| entry.record(index, event)).collect();
                edge = Some(*version);
                if backward {
                    events.reverse();
                }
                found.extend(events);
                if found.len() >= max {
                    found.truncate(max);
                    return Ok(found);
                }
            }
            let first_look = more.take();
            let next = match (first_look, backward, edge) {
                (Some((low, high)), false, _) => Some((low, high)),
                (_, _, None) => None,
                (_, false, Some(edge)) => edge.checked_add(1).map(|low| (low, u64::MAX)),
                (_, true, Some(edge)) => Some((0, edge)),
            };
            let Some((low, high)) = next else { return Ok(found) };
            runs = rows::stream_runs(index, origin, stream, low, high, backward, PAGE_ROWS)?;
            if runs.is_empty() {
                return Ok(found);
            }
        }
    }

    pub(crate) fn stream_version(&self, origin: &AgencyCode, stream: &str) -> Result<Option<u64>, ReadError> {
        Ok(rows::stream(self.index.as_ref(), origin, stream)?.map(|(version, _)| version))
    }

    pub(crate) fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, ReadError> {
        let index = self.index.as_ref();
        let at = match rows::event(index, id, self.sealer.origin())? {
            Some(at) => Some(at),
            None => rows::event_of_anybody(index, id)?,
        };
        let Some(at) = at else { return Ok(None) };
        let entry = self.entry(at.entry)?.ok_or_else(|| self.unknown(at.entry))?;
        match entry.event(at.index).filter(|event| event.event.id == id.as_bytes()) {
            Some(event) => Ok(Some(event)),
            None => Err(ReadError::Index(format!("it names another event for id {id}"))),
        }
    }

    pub(crate) fn events(
        &self,
        from: EventPosition,
        filter: &Filter,
        direction: Direction,
        max: usize,
    ) -> Result<EventPage, ReadError> {
        match direction {
            Direction::Forward => self.events_forward(from, filter, max),
            Direction::Backward => self.events_backward(from, filter, max),
        }
    }

    fn events_forward(&self, from: EventPosition, filter: &Filter, max: usize) -> Result<EventPage, ReadError> {
        let (mut events, mut next, mut looked) = (Vec::new(), from, 0);
        if max > 0 {
            self.walk_forward(from.entry, &mut |entry| {
                looked += 1;
                let skip = if entry.position == from.entry { from.index as usize } else { 0 };
                if filter.matches_feed(&entry.feed) {
                    for (index, event) in entry.batch.events.iter().enumerate().skip(skip) {
                        if events.len() == max {
                            next = EventPosition::new(entry.position, index as u32);
                            return false;
                        }
                        if filter.matches(&entry.feed, event) {
                            events.push(entry.record(index, event));
                        }
                    }
                }
                next = EventPosition::new(entry.position + 1, 0);
                events.len() < max && looked < MAX_SCAN_ENTRIES
            })?;
        }
        Ok(EventPage { events, next, more: next.entry < self.length() })
    }

    fn events_backward(&self, from: EventPosition, filter: &Filter, max: usize) -> Result<EventPage, ReadError> {
        let (mut events, mut next, mut looked) = (Vec::new(), from, 0);
        if max > 0 {
            let before = if from.index == 0 { from.entry } else { from.entry.saturating_add(1) };
            self.walk_backward(before, &mut |entry| {
                looked += 1;
                let keep = if entry.position == from.entry { from.index as usize } else { usize::MAX };
                if filter.matches_feed(&entry.feed) {
                    for (index, event) in entry.batch.events.iter().enumerate().take(keep).rev() {
                        if events.len() == max {
                            next = EventPosition::new(entry.position, index as u32 + 1);
                            return false;
                        }
                        if filter.matches(&entry.feed, event) {
                            events.push(entry.record(index, event));
                        }
                    }
                }
                next = EventPosition::new(entry.position, 0);
                events.len() < max && looked < MAX_SCAN_ENTRIES
            })?;
        }
        let more = next > EventPosition::START && self.length() > 0;
        Ok(EventPage { events, next, more })
    }

    pub(crate) fn root(&self, size: u64) -> Result<Digest, ReadError> {
        let entries = self.length();
        if size > entries {
            return Err(ReadError::BeyondEnd { size, entries });
        }
        self.tree().root(size).map_err(|error| ReadError::Index(error.to_string()))
    }
}
