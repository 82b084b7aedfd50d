//! Reading: the index says where, the chunk says what.

use httt_feed::{AgencyCode, Digest, FeedId};
use uuid::Uuid;

use crate::ReadError;
use crate::chunks::Found;
use crate::entry::{Direction, Entry, EventPage, EventPosition, Filter, RecordedEvent, SealedEntry};
use crate::filter::RowFilter;
use crate::index::row::EntryRow;
use crate::shared::Shared;

/// Index rows fetched at a time.
const PAGE_ROWS: usize = 256;
/// Entries decoded at a time.
const PAGE_ENTRIES: usize = 64;
/// Most entries one call of `events` looks at; those that the index passes over count a sixteenth.
pub const MAX_SCAN_ENTRIES: usize = 16_384;
/// What an entry costs that the index passes over, and one that is read.
const PASSED: usize = 1;
const LOOKED_AT: usize = 16;

/// Takes neighbouring rows, given the position of the first; false: no more are wanted.
type TakePage<'a> = dyn FnMut(u64, &[EntryRow]) -> Result<bool, ReadError> + 'a;

impl Shared {
    /// The entry at `position`, if it is durable.
    pub(crate) fn entry(&self, position: u64) -> Result<Option<Entry>, ReadError> {
        match self.index.row(position)? {
            Some(row) => self.chunks.entry(row.at, position).map(Some),
            None if position < self.length() => Err(self.unknown(position)),
            None => Ok(None),
        }
    }

    /// Whether the entry at `position` went by retention. Whether its chunk can be read shows when it is read.
    fn is_gone(&self, position: u64) -> Result<bool, ReadError> {
        let row = self.index.row(position)?.ok_or_else(|| self.unknown(position))?;
        match self.chunks.finder().find(row.at, position) {
            Ok(found) => Ok(found.is_none()),
            Err(ReadError::ArchiveMissing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The index says what cannot be, or does not say what it must know.
    pub(crate) fn doubted(&self, what: String) -> ReadError {
        self.index.fail(&what);
        ReadError::Index(what)
    }

    fn unknown(&self, position: u64) -> ReadError {
        self.doubted(format!("it does not know entry {position} of {}", self.length()))
    }

    /// The entries of neighbouring rows, the first of which is `first`'s; those that went by retention are left out.
    fn load(&self, first: u64, rows: &[EntryRow]) -> Result<Vec<SealedEntry>, ReadError> {
        let mut finder = self.chunks.finder();
        let found = (first..).zip(rows).filter_map(|(position, row)| finder.find(row.at, position).transpose());
        self.load_found(&found.collect::<Result<Vec<_>, _>>()?)
    }

    fn load_found(&self, found: &[Found]) -> Result<Vec<SealedEntry>, ReadError> {
        let payloads = self.chunks.payloads(found)?;
        let positions = found.iter().map(|found| found.position);
        Ok(positions.zip(payloads).map(|(position, bytes)| SealedEntry { position, bytes }).collect())
    }

    /// Rows `from..to` in pages, until `take` says to stop. Pages go forward from `from` or backward from `to`; rows in
    /// a page go forward. `take` is given the position of the first.
    fn pages(
        &self,
        (mut from, mut to): (u64, u64),
        direction: Direction,
        page: usize,
        take: &mut TakePage<'_>,
    ) -> Result<(), ReadError> {
        while from < to {
            let count = (to - from).min(page as u64);
            let first = if direction == Direction::Forward { from } else { to - count };
            let rows = self.index.rows(first, count as usize)?;
            match direction {
                Direction::Forward => from += count,
                Direction::Backward => to -= count,
            }
            if !take(first, &rows)? {
                break;
            }
        }
        Ok(())
    }

    /// Entries that went by retention are passed over.
    pub(crate) fn read_sealed(
        &self,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        direction: Direction,
    ) -> Result<Vec<SealedEntry>, ReadError> {
        let length = self.length();
        let range = match direction {
            Direction::Forward => (from, length),
            Direction::Backward => (0, from.min(length)),
        };
        let (mut entries, mut bytes) = (Vec::new(), 0);
        if max_entries == 0 {
            return Ok(entries);
        }
        let mut finder = self.chunks.finder();
        self.pages(range, direction, PAGE_ROWS.min(max_entries), &mut |first, rows| {
            let (mut found, mut full) = (Vec::new(), false);
            for n in 0..rows.len() {
                let at = if direction == Direction::Forward { n } else { rows.len() - 1 - n };
                let Some(here) = finder.find(rows[at].at, first + at as u64)? else { continue };
                let held = entries.len() + found.len();
                bytes += here.length as usize;
                // At least one entry is given, however large.
                full = held > 0 && bytes > max_bytes;
                if full {
                    break;
                }
                found.push(here);
                full = held + 1 == max_entries || bytes >= max_bytes;
                if full {
                    break;
                }
            }
            if direction == Direction::Backward {
                found.reverse();
            }
            let mut loaded = self.load_found(&found)?;
            if direction == Direction::Backward {
                loaded.reverse();
            }
            entries.append(&mut loaded);
            Ok(!full)
        })?;
        Ok(entries)
    }

    pub(crate) fn read(
        &self,
        from: u64,
        max_entries: usize,
        max_bytes: usize,
        direction: Direction,
    ) -> Result<Vec<Entry>, ReadError> {
        self.read_sealed(from, max_entries, max_bytes, direction)?
            .into_iter()
            .map(|entry| {
                Entry::decode(entry.position, entry.bytes).map_err(|what| self.undecodable(entry.position, &what))
            })
            .collect()
    }

    /// An entry that is intact and yet makes no sense.
    fn undecodable(&self, position: u64, what: &str) -> ReadError {
        match self.index.row(position) {
            Ok(Some(row)) => row.at.damaged(position, what).into(),
            _ => self.unknown(position),
        }
    }

    pub(crate) fn read_feed(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let (Some(head), Some(first)) = (self.head(feed), self.begins(feed)?) else { return Ok(Vec::new()) };
        let mut after = match after {
            0 => first - 1,
            after if after < first - 1 => return Err(ReadError::BeginsLater { feed: feed.clone(), after, first }),
            after => after,
        };
        let (mut entries, mut bytes) = (Vec::<Entry>::new(), 0);
        while after < head.sequence && (entries.is_empty() || bytes < max_bytes) {
            let last = head.sequence.min(after + PAGE_ENTRIES as u64);
            let places = self.index.batches(feed, after + 1, last)?;
            if places.len() as u64 != last - after {
                return Err(self.doubted(format!("it does not know sequence {} of {feed}", after + 1)));
            }
            for position in places {
                let entry = match self.entry(position) {
                    // What comes before the gap is given first.
                    Err(ReadError::Gone(_)) if !entries.is_empty() => return Ok(entries),
                    entry => entry?.ok_or_else(|| self.unknown(position))?,
                };
                after += 1;
                if entry.feed != *feed || entry.sequence != after {
                    return Err(self.doubted(format!("it names another batch for sequence {after} of {feed}")));
                }
                bytes += entry.bytes.len();
                if !entries.is_empty() && bytes > max_bytes {
                    return Ok(entries);
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Where the batch of `feed` with this sequence stands, and what the index knows of it.
    pub(crate) fn batch_row(&self, feed: &FeedId, sequence: u64) -> Result<Option<(u64, EntryRow)>, ReadError> {
        let Some(position) = self.index.batches(feed, sequence, sequence)?.pop() else { return Ok(None) };
        Ok(self.index.row(position)?.map(|row| (position, row)))
    }

    /// The batch of `feed` with this sequence, and when it was committed.
    pub(crate) fn batch(&self, feed: &FeedId, sequence: u64) -> Result<Option<(Entry, i64)>, ReadError> {
        let Some(position) = self.index.batches(feed, sequence, sequence)?.pop() else { return Ok(None) };
        let row = self.index.row(position)?.ok_or_else(|| self.unknown(position))?;
        let entry = match self.chunks.entry(row.at, position) {
            // Of what is gone, the index knows the leaf as it was written.
            Err(ReadError::Gone(gone)) if (&gone.feed, gone.sequence, gone.leaf) != (feed, sequence, row.leaf) => {
                let what = "what is kept of an entry that is gone is not what was written";
                return Err(row.at.damaged(position, what).into());
            }
            entry => entry?,
        };
        if entry.feed != *feed || entry.sequence != sequence {
            return Err(self.doubted(format!("it names another batch for sequence {sequence} of {feed}")));
        }
        Ok(Some((entry, row.at_ms)))
    }

    pub(crate) fn read_stream(
        &self,
        origin: &AgencyCode,
        stream: &str,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let backward = direction == Direction::Backward;
        let (mut places, mut events, mut failed) = (Vec::new(), 0, None);
        if max > 0 {
            self.index.spans((origin, stream), from, backward, |span| {
                match self.is_gone(span.place.entry) {
                    Ok(true) => return true,
                    Ok(false) => places.push(span.place),
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                }
                // The first may lie before what is wanted in part.
                let (low, high) =
                    if backward { (span.first, from.min(span.last())) } else { (span.first.max(from), span.last()) };
                let wanted = (high + 1).saturating_sub(low);
                events += usize::try_from(wanted).unwrap_or(usize::MAX);
                events < max
            })?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut found = Vec::new();
        for place in places {
            let entry = match self.entry(place.entry) {
                // It went since it was looked for.
                Err(ReadError::Gone(_)) => continue,
                entry => entry?.ok_or_else(|| self.unknown(place.entry))?,
            };
            let of_span = entry.batch.events.iter().enumerate().skip(place.index as usize);
            let mut expected = None;
            let of_span = of_span.filter(|(_, event)| event.stream == stream).take_while(|(_, event)| {
                // A batch may hold more than one span of a stream.
                let follows = expected.is_none_or(|version| event.version == version);
                expected = event.version.checked_add(1);
                follows
            });
            let wanted =
                |event: &httt_wire::feed::Event| if backward { event.version <= from } else { event.version >= from };
            let mut events: Vec<_> =
                of_span.filter(|(_, event)| wanted(event)).map(|(index, event)| entry.record(index, event)).collect();
            if backward {
                events.reverse();
            }
            found.append(&mut events);
        }
        found.truncate(max);
        Ok(found)
    }

    /// A stream's latest version, and the feed it lives in.
    pub(crate) fn stream(&self, origin: &AgencyCode, stream: &str) -> Result<Option<(u64, FeedId)>, ReadError> {
        let Some(span) = self.index.newest(origin, stream)? else { return Ok(None) };
        let row = self.index.row(span.place.entry)?.ok_or_else(|| self.unknown(span.place.entry))?;
        Ok(Some((span.last(), self.index.feed(row.feed)?)))
    }

    pub(crate) fn stream_version(&self, origin: &AgencyCode, stream: &str) -> Result<Option<u64>, ReadError> {
        Ok(self.index.newest(origin, stream)?.map(|span| span.last()))
    }

    pub(crate) fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, ReadError> {
        let own = &self.origin;
        // What is gone is none of this node's own: another event's id has the same hash.
        match self.event_of(own, id) {
            Ok(None) | Err(ReadError::Gone(_)) => {}
            found => return found,
        }
        let mut origins: Vec<_> = self.index.feeds().into_iter().map(|head| head.feed.origin).collect();
        origins.sort();
        origins.dedup();
        for origin in origins.iter().filter(|origin| *origin != own) {
            if let Some(found) = self.event_of(origin, id)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn event_of(&self, origin: &AgencyCode, id: Uuid) -> Result<Option<RecordedEvent>, ReadError> {
        let mut gone = None;
        for place in self.index.events(origin, id)? {
            let entry = match self.entry(place.entry) {
                Err(ReadError::Gone(entry)) => {
                    gone = Some(entry);
                    continue;
                }
                entry => entry?.ok_or_else(|| self.unknown(place.entry))?,
            };
            let event = entry.event(place.index).filter(|event| event.event.id == id.as_bytes());
            if event.is_some() && entry.feed.origin == *origin {
                return Ok(event);
            }
        }
        gone.map_or(Ok(None), |gone| Err(ReadError::Gone(gone)))
    }

    pub(crate) fn events(
        &self,
        from: EventPosition,
        filter: &Filter,
        direction: Direction,
        max: usize,
    ) -> Result<EventPage, ReadError> {
        let length = self.length();
        let forward = direction == Direction::Forward;
        let before = if from.index == 0 { from.entry } else { from.entry.saturating_add(1) };
        let range = if forward { (from.entry, length) } else { (0, before.min(length)) };
        let rows_wanted = RowFilter::new(filter, &self.index);
        let mut page = Page { filter, forward, from, max, events: Vec::new(), next: from, gone: 0 };
        let mut cost = 0;
        if max > 0 {
            self.pages(range, direction, PAGE_ROWS, &mut |first, rows| {
                let mut at = 0;
                while at < rows.len() {
                    // Neighbours are read together, but not many more than may be wanted.
                    let index = |n: usize| if forward { n } else { rows.len() - 1 - n };
                    let here = at;
                    let wanted = |n: usize| rows_wanted.may_match(&rows[index(n)]);
                    let want = wanted(here);
                    while at < rows.len() && at - here < PAGE_ENTRIES && wanted(at) == want {
                        at += 1;
                    }
                    let (low, high) = if forward { (here, at) } else { (rows.len() - at, rows.len() - here) };
                    cost += (at - here) * if want { LOOKED_AT } else { PASSED };
                    let positions = (first + low as u64, first + high as u64);
                    if !want {
                        page.pass(positions);
                    } else if !page.take(positions, self.load(positions.0, &rows[low..high])?, |position, what| {
                        self.undecodable(position, what)
                    })? {
                        return Ok(false);
                    }
                    if cost >= MAX_SCAN_ENTRIES * LOOKED_AT {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?;
        }
        let Page { events, next, gone, .. } = page;
        let more = if forward { next.entry < length } else { next > EventPosition::START && length > 0 };
        Ok(EventPage { events, next, more, gone })
    }

    pub(crate) fn root(&self, size: u64) -> Result<Digest, ReadError> {
        let entries = self.length();
        if size > entries {
            return Err(ReadError::BeyondEnd { size, entries });
        }
        self.tree().root(size).map_err(|error| ReadError::Index(error.to_string()))
    }
}

/// A page of events in the making.
struct Page<'a> {
    filter: &'a Filter,
    forward: bool,
    from: EventPosition,
    max: usize,
    events: Vec<RecordedEvent>,
    next: EventPosition,
    gone: u64,
}

impl Page<'_> {
    /// Goes past entries `from..to`.
    fn pass(&mut self, (from, to): (u64, u64)) {
        self.next = EventPosition::new(if self.forward { to } else { from }, 0);
    }

    /// Takes what is wanted of the entries that are left of `from..to`, which go forward; false: the page is full.
    fn take(
        &mut self,
        (from, to): (u64, u64),
        mut entries: Vec<SealedEntry>,
        failed: impl Fn(u64, &str) -> ReadError,
    ) -> Result<bool, ReadError> {
        if !self.forward {
            entries.reverse();
        }
        // Up to where it went.
        let mut at = if self.forward { from } else { to };
        for SealedEntry { position, bytes } in entries {
            self.gone += if self.forward { position - at } else { at - (position + 1) };
            at = if self.forward { position + 1 } else { position };
            let entry = Entry::decode(position, bytes).map_err(|what| failed(position, &what))?;
            let events = entry.batch.events.iter().enumerate();
            let at_edge = entry.position == self.from.entry;
            let events: Box<dyn Iterator<Item = _>> = match (self.forward, at_edge) {
                (true, true) => Box::new(events.skip(self.from.index as usize)),
                (true, false) => Box::new(events),
                (false, true) => Box::new(events.take(self.from.index as usize).rev()),
                (false, false) => Box::new(events.rev()),
            };
            for (index, event) in events {
                if self.events.len() == self.max {
                    self.next = EventPosition::new(position, index as u32 + u32::from(!self.forward));
                    return Ok(false);
                }
                if self.filter.matches(&entry.feed, event) {
                    self.events.push(entry.record(index, event));
                }
            }
            self.pass((position, position + 1));
            if self.events.len() >= self.max {
                return Ok(false);
            }
        }
        self.gone += if self.forward { to - at } else { at - from };
        self.pass((from, to));
        Ok(true)
    }
}
