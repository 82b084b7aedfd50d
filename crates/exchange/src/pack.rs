//! Entries packed for the wire: zstd over an encoded `Entries`. What is sealed inside stays as it is.
//!
//! Both sides start their compressor from the same [`DICTIONARY`] of words that every batch repeats, since a push is
//! often one small batch. It is part of the protocol: another one would be another field of the messages. Frames made
//! without it unpack just the same.

use std::cell::RefCell;

use bytes::Bytes;
use httt_feed::{Lane, Refusal};
use httt_wire::{Message as _, exchange as wire};
use zstd::bulk::{Compressor, Decompressor};

use crate::MAX_CALL_BYTES;

/// What packed entries may come to when unpacked: one call's entries and four bytes of framing for each.
pub const MAX_UNPACKED_BYTES: usize = MAX_CALL_BYTES + 64 * 1024;
/// Fewer bytes than this are sent as they are: packing saves a packet of them at best.
const MIN_PACK_BYTES: usize = 200;
/// Above this level zstd takes several times as long for a few percent.
const LEVEL: i32 = 3;

/// What both sides' compressors start from, a raw content dictionary without an id: words that batches repeat, the most
/// frequent last, since zstd names what is near with fewer bits. For ever as it is.
pub const DICTIONARY: &[u8] = b"httt.directory.v1.MemberEnrolled\
httt.directory.v1.KeyAdded\
httt.report.v1.ReportSubmitted\
httt.bulletin.v1.BulletinPublished\
httt.bulletin.v1.BulletinDelivered\
httt.bulletin.v1.BulletinPlayed\
delivery/bulletin/central-sourceNDXP*\
httt.exchange.v1.Receiptreceipts//TW/contentreport(\x04gateway\
httt.cluster.v1.ClustersRegistered\
httt.cluster.v1.ClusterStatusRestated\
\x12\x02TW\x18\x05 *\x20:\x12\x10\x12\x08clusters\x18\"$httt.cluster.v1.ClusterStatusChanged(\x32\x11provincial-sourceB\x12\x40";

thread_local! {
    // A context takes longer to set up than a small push takes to pack.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Entries as they go over the wire: one of the two is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnTheWire {
    /// As they are.
    pub entries: Vec<Bytes>,
    /// zstd over an encoded `Entries`.
    pub packed: Bytes,
}

impl OnTheWire {
    /// As they are, for who does not read packed ones.
    pub fn plain(entries: Vec<Bytes>) -> Self {
        Self { entries, packed: Bytes::new() }
    }
}

/// Packs entries of a lane where that makes them smaller. Emergencies go as they are: they wait for nothing.
pub fn pack(lane: Lane, entries: Vec<Bytes>) -> OnTheWire {
    let bytes: usize = entries.iter().map(Bytes::len).sum();
    if lane == Lane::Emergency || !(MIN_PACK_BYTES..=MAX_CALL_BYTES).contains(&bytes) {
        return OnTheWire::plain(entries);
    }
    let message = wire::Entries { entries };
    match compress(&message.encode_to_vec()) {
        // What does not pack is the peer's to read at once.
        Some(packed) if packed.len() < bytes => OnTheWire { entries: Vec::new(), packed: packed.into() },
        _ => OnTheWire::plain(message.entries),
    }
}

/// The entries of a message that carries them either way.
///
/// # Errors
/// [`Refusal::Malformed`]: both ways at once, or what is packed does not unpack into [`MAX_UNPACKED_BYTES`].
pub fn unpack(message: OnTheWire) -> Result<Vec<Bytes>, Refusal> {
    let OnTheWire { entries, packed } = message;
    if packed.is_empty() {
        return Ok(entries);
    }
    let malformed = |what: String| Refusal::Malformed(format!("packed entries: {what}"));
    if !entries.is_empty() {
        return Err(malformed("a message carries entries packed or plain, not both".into()));
    }
    let plain = decompress(&packed)
        .map_err(|error| malformed(format!("they do not unpack into {MAX_UNPACKED_BYTES} bytes at most ({error})")))?;
    let message = wire::Entries::decode(Bytes::from(plain)).map_err(|error| malformed(error.to_string()))?;
    Ok(message.entries)
}

/// `None`: zstd failed, and the bytes go as they are.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = Compressor::with_dictionary(LEVEL, DICTIONARY).ok();
        }
        packer.as_mut()?.compress(plain).ok()
    })
}

fn decompress(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Decompressor::with_dictionary(DICTIONARY)?),
        };
        // Into one buffer of that size and no more, whatever the frame says of itself.
        unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(bytes: &[u8]) -> OnTheWire {
        OnTheWire { entries: vec![], packed: zstd::bulk::compress(bytes, LEVEL).expect("packs").into() }
    }

    #[test]
    fn emergencies_and_small_pushes_go_as_they_are() {
        let long = vec![Bytes::from(vec![7; 5_000])];
        assert_eq!(pack(Lane::Emergency, long.clone()), OnTheWire::plain(long.clone()));
        assert!(pack(Lane::Report, long).packed.len() < 100);
        let short = vec![Bytes::from(vec![7; MIN_PACK_BYTES - 1])];
        assert_eq!(pack(Lane::Report, short.clone()), OnTheWire::plain(short));
    }

    #[test]
    fn a_bomb_is_refused() {
        let most = wire::Entries { entries: vec![Bytes::from(vec![0; MAX_UNPACKED_BYTES - 8])] };
        assert!(unpack(packed(&most.encode_to_vec())).is_ok());
        let bomb = wire::Entries { entries: vec![Bytes::from(vec![0; MAX_UNPACKED_BYTES])] };
        let bomb = packed(&bomb.encode_to_vec());
        assert!(bomb.packed.len() < 2_000, "small on the wire");
        let refusal = unpack(bomb).expect_err("refused").to_string();
        assert!(refusal.contains(&MAX_UNPACKED_BYTES.to_string()), "{refusal}");
        // Many frames, one after the other, are one message to zstd.
        let frame = zstd::bulk::compress(&vec![0; MAX_CALL_BYTES], LEVEL).expect("packs");
        assert!(unpack(OnTheWire { entries: vec![], packed: frame.repeat(4).into() }).is_err());
    }

    #[test]
    fn a_frame_made_without_the_dictionary_unpacks() {
        let entries = vec![Bytes::from_static(b"httt.cluster.v1.ClusterStatusChanged provincial-source")];
        let message = wire::Entries { entries: entries.clone() };
        assert_eq!(unpack(packed(&message.encode_to_vec())), Ok(entries));
    }

    #[test]
    fn both_ways_at_once_is_refused() {
        let both = OnTheWire { entries: vec![Bytes::from_static(b"x")], ..packed(b"") };
        assert!(matches!(unpack(both), Err(Refusal::Malformed(_))));
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(
            entries in prop::collection::vec((any::<u8>(), 0_usize..3_000, prop::collection::vec(any::<u8>(), 0..300)), 0..40)
        ) {
            let entries: Vec<Bytes> =
                entries.into_iter().map(|(fill, count, tail)| [vec![fill; count], tail].concat().into()).collect();
            let plain: usize = entries.iter().map(Bytes::len).sum();
            let sent = pack(Lane::Status, entries.clone());
            prop_assert!(sent.packed.len() + sent.entries.iter().map(Bytes::len).sum::<usize>() <= plain);
            prop_assert_eq!(unpack(sent), Ok(entries));
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 1..2_000), cut in any::<prop::sample::Index>()) {
            let rubbish = OnTheWire { entries: vec![], packed: bytes.clone().into() };
            let _ = unpack(rubbish);
            let good = pack(Lane::Status, vec![[vec![1; 300], bytes].concat().into()]);
            if !good.packed.is_empty() {
                let cut = good.packed.slice(..cut.index(good.packed.len()).max(1));
                let cut = OnTheWire { entries: vec![], packed: cut };
                prop_assert!(unpack(cut).is_err());
            }
        }
    }
}
