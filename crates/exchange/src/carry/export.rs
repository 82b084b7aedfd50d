//! Makes a file out of a store.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, FeedId, Lane};

use super::plan::{Packed, read_pack};
use super::{Encoder, Manifest, MediaPart, MediaPiece};
use crate::{MAX_CALL_BYTES, MAX_MEDIA_RANGE, Media, MediaError, SharedDirectory, Store, StoreError};

/// What goes into a file.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Who will read it. The gateway is given what this node says or carries; others what they may read.
    pub reader: AgencyCode,
    /// Only these feeds; empty: all.
    pub feeds: Vec<FeedId>,
    /// Only these lanes; empty: all.
    pub lanes: Vec<Lane>,
    /// Begin after this sequence, of one feed, whatever the reader holds.
    pub after: Option<u64>,
    /// Take the media along that the bulletins name.
    pub media: bool,
    /// The file must not be larger.
    pub max_bytes: Option<u64>,
}

impl Selection {
    /// Everything that `reader` may have.
    pub fn all_for(reader: AgencyCode) -> Self {
        Self { reader, feeds: Vec::new(), lanes: Vec::new(), after: None, media: true, max_bytes: None }
    }

    pub(super) fn takes(&self, feed: &FeedId) -> bool {
        (self.feeds.is_empty() || self.feeds.contains(feed))
            && (self.lanes.is_empty() || self.lanes.contains(&feed.lane))
    }
}

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The node does not know who takes part.
    #[error(
        "this node holds no directory yet, so it knows nobody to write for; import a file made by the gateway first"
    )]
    NoDirectory,
    /// Nobody of that code can read.
    #[error("{0} cannot be written for: it is this node itself, or no member of this exchange")]
    NotAReader(AgencyCode),
    /// The earlier file is about others.
    #[error(
        "the earlier file was made by {maker} for {made_for}; it must be one that {reader} made, or one that {own} made \
         for {reader}"
    )]
    OtherFile {
        /// Who made it.
        maker: AgencyCode,
        /// For whom.
        made_for: AgencyCode,
        /// This node.
        own: AgencyCode,
        /// For whom the new one is.
        reader: AgencyCode,
    },
    /// A sequence says nothing without its feed.
    #[error("a sequence to begin after needs exactly one feed that it is of")]
    AfterNeedsOneFeed,
    /// The file would be too small for anything.
    #[error("the file needs room for {needed} bytes at least")]
    NoRoom {
        /// Bytes.
        needed: u64,
    },
    /// More feeds than a manifest can name.
    #[error("{feeds} feeds are more than one file can name; export some of them with --feed or --lane")]
    TooManyFeeds {
        /// So many.
        feeds: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The media store.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// Compression.
    #[error("entries cannot be packed: {0}")]
    Pack(#[from] io::Error),
    /// The store or the media changed under the export in a way they never do.
    #[error("{0} is not as it was a moment ago")]
    Changed(String),
}

impl ExportError {
    /// In Vietnamese.
    pub fn vi(&self) -> String {
        match self {
            Self::NoDirectory => {
                "nút này chưa có danh bạ nên chưa biết ai để xuất; hãy nhập trước một tệp do sàn trao đổi làm"
                    .to_owned()
            }
            Self::NotAReader(reader) => {
                format!("không thể xuất cho {reader}: đó là chính nút này, hoặc không phải thành viên")
            }
            Self::OtherFile { maker, made_for, own, reader } => format!(
                "tệp trước do {maker} làm cho {made_for}; cần tệp do {reader} làm, hoặc do {own} làm cho {reader}"
            ),
            Self::AfterNeedsOneFeed => "số thứ tự bắt đầu phải đi cùng đúng một luồng".to_owned(),
            Self::NoRoom { needed } => format!("tệp cần ít nhất {needed} byte"),
            Self::TooManyFeeds { feeds } => {
                format!("{feeds} luồng là quá nhiều cho một tệp; hãy xuất từng phần với --feed hoặc --lane")
            }
            Self::Store(_) | Self::Media(_) | Self::Pack(_) | Self::Changed(_) => {
                "không đọc được dữ liệu của nút".to_owned()
            }
        }
    }
}

/// What exporting needs of a node.
#[derive(Clone)]
pub struct Exporter {
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: SharedDirectory,
    pub(super) media: Arc<dyn Media>,
}

impl Exporter {
    /// Exports from `store` and `media`.
    pub fn new(store: Arc<dyn Store>, directory: SharedDirectory, media: Arc<dyn Media>) -> Self {
        Self { store, directory, media }
    }

    /// Begins a file. `earlier` is one that the reader made, or the one made for it before: what it tells the reader
    /// holds is left out. `now_ms` is written into it.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn begin(
        &self,
        selection: &Selection,
        earlier: Option<&Manifest>,
        now_ms: i64,
    ) -> Result<Export, ExportError> {
        let plan = self.plan(selection, earlier, now_ms).await?;
        let (encoder, first) = Encoder::begin(&plan.manifest);
        Ok(Export {
            source: self.clone(),
            encoder: Some(encoder),
            first: Some(first),
            packs: plan.packs.into(),
            media: plan.manifest.media.iter().filter(|part| part.from < part.until).copied().collect(),
            manifest: plan.manifest,
        })
    }
}

/// A file that is being made: ask for its bytes until there are no more.
pub struct Export {
    source: Exporter,
    /// Gone once the end is written.
    encoder: Option<Encoder>,
    first: Option<Bytes>,
    packs: VecDeque<Packed>,
    /// What is still to be written.
    media: VecDeque<MediaPart>,
    manifest: Manifest,
}

impl Export {
    /// What the file says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file's next bytes, at most a frame; `None`: that was all.
    ///
    /// # Errors
    /// The store or the media cannot be read; the file is then of no use.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if let Some(Packed { feed, after, count }) = self.packs.pop_front() {
            let last = after + count as u64;
            let entries = read_pack(self.source.store.as_ref(), &feed, after, MAX_CALL_BYTES, last).await?;
            if entries.len() != count {
                return Err(ExportError::Changed(feed.to_string()));
            }
            return Ok(Some(encoder.entries(&feed, entries)?));
        }
        if let Some(part) = self.media.front_mut() {
            let most = (part.until - part.from).min(MAX_MEDIA_RANGE as u64) as usize;
            let (data, size) = self.source.media.read(part.digest, part.from, most, false).await?;
            if data.is_empty() || size != part.size {
                return Err(ExportError::Changed(part.digest.to_string()));
            }
            let piece = MediaPiece { digest: part.digest, size, offset: part.from, data };
            part.from += piece.data.len() as u64;
            if part.from >= part.until {
                self.media.pop_front();
            }
            return Ok(Some(encoder.media(piece)));
        }
        Ok(self.encoder.take().map(Encoder::end))
    }
}
