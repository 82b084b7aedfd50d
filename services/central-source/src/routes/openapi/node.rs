//! What every node answers (`httt_node::api`), described. The functions are never called: only what stands above them
//! is used. Tests hold them to the real routes and shapes.
#![allow(dead_code, reason = "descriptions")]

use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::shapes::FileShape;

/// What is typed to log in.
#[derive(Serialize, ToSchema)]
pub(super) struct Credentials {
    username: String,
    password: String,
}

/// An open session.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionAnswer {
    /// For `Authorization: Bearer …`; shown this once.
    token: String,
    /// When it ends at the latest, Unix ms.
    ends_at_ms: i64,
    account: String,
    roles: Vec<String>,
    area: String,
}

/// An account as it sees itself.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountAnswer {
    account: String,
    /// `author`, `approver`, `operator`, `commune-officer`, `auditor`, `province-officer`.
    roles: Vec<String>,
    /// The area they are bound to; empty or `VN` is the nation.
    area: String,
}

/// The log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogAnswer {
    /// Agency code of the node.
    member: String,
    /// Hexadecimal.
    log_id: String,
    /// Entries (sealed batches).
    entries: u64,
    /// RFC 6962 root over them, hexadecimal.
    root: String,
    /// The latest signed checkpoint (C2SP signed note), empty before the first.
    checkpoint: String,
    /// SHA-256 fingerprint of the key that seals and signs.
    key_fingerprint: String,
    /// The new key that was offered to the exchange and not added yet; null: none waits.
    key_offer: Option<KeyOfferAnswer>,
    feeds: Vec<FeedAnswer>,
}

/// A key that waits for the exchange. If it stays so, the node has too many keys, or no link.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyOfferAnswer {
    fingerprint: String,
    /// How often it was offered.
    times: u64,
    /// When it is offered again, Unix ms.
    again_at_ms: i64,
}

/// The media store; with a bucket, the folder that is its cache.
#[derive(Serialize, ToSchema)]
pub(super) struct StorageAnswer {
    /// `folder` or `s3`.
    store: String,
    /// Complete files.
    files: u64,
    file_bytes: u64,
    /// Unfinished files.
    parts: u64,
    /// Their bytes, and those of uploads under way.
    part_bytes: u64,
    /// Largest file, bytes.
    max_file_bytes: u64,
    /// Limit of all these bytes together.
    max_store_bytes: u64,
    /// Unfinished files that one member may have.
    max_member_parts: usize,
    max_member_part_bytes: u64,
    /// Complete files dropped since the start, to make room.
    dropped: u64,
    /// Complete files found lost or spoilt since the start.
    lost: u64,
    members: Vec<MemberPartsAnswer>,
}

/// Unfinished files of one member.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberPartsAnswer {
    /// Agency code.
    member: String,
    parts: u64,
    bytes: u64,
}

/// Witnessing.
#[derive(Serialize, ToSchema)]
pub(super) struct WitnessAnswer {
    /// Key (C2SP vkey) that this log's checkpoints are signed with.
    log_key: String,
    /// Key (C2SP vkey) that this node cosigns with.
    cosigner_key: String,
    /// Entries of this log's latest cosigned checkpoint; `null`: none is.
    cosigned_size: Option<u64>,
    /// Who cosigned it.
    cosigners: Vec<String>,
    /// What is wrong with witnessing, if anything is.
    alarm: Option<String>,
    watched: Vec<WatchedAnswer>,
}

/// One log that this node witnesses.
#[derive(Serialize, ToSchema)]
pub(super) struct WatchedAnswer {
    /// Its origin line, `httt/H24`.
    origin: String,
    /// Entries of the checkpoint cosigned last; `null`: none was.
    size: Option<u64>,
    /// When, Unix ms.
    cosigned_at_ms: Option<i64>,
    /// Checkpoints refused because they do not continue what was cosigned.
    refused: u64,
    /// Why the last of them was.
    last_refusal: Option<String>,
}

/// Which log begins anew, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Forget {
    /// Its origin line, `httt/H24`.
    origin: String,
    /// At most 1000 bytes.
    reason: String,
}

/// One feed held.
#[derive(Serialize, ToSchema)]
pub(super) struct FeedAnswer {
    /// `TW→*/content`
    feed: String,
    /// The first sequence held: 1, or a later one where the log took the feed up at a restatement. What came before it is
    /// not in any figure of this node.
    begins: u64,
    /// Its last sequence.
    sequence: u64,
    /// SHA-256 of that batch's body.
    digest: String,
}

/// The way up.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkAnswer {
    /// Whether the last call got through.
    connected: bool,
    /// Feeds whose heads differ.
    behind: Vec<BehindAnswer>,
    /// Feeds that forked and stand still.
    stopped: Vec<String>,
    /// Own feeds of which the gateway has not receipted everything yet.
    unreceipted: Vec<UnreceiptedAnswer>,
}

/// An own feed ahead of its receipts.
#[derive(Serialize, ToSchema)]
pub(super) struct UnreceiptedAnswer {
    feed: String,
    /// Last sequence here.
    here: u64,
    /// Last sequence the gateway gave a receipt for.
    receipted: u64,
}

/// A feed that is not level with the peer's.
#[derive(Serialize, ToSchema)]
pub(super) struct BehindAnswer {
    feed: String,
    /// Last sequence here.
    here: u64,
    /// Last sequence there.
    there: u64,
}

/// What went both ways between this node and a peer, since the node started.
#[derive(Serialize, ToSchema)]
pub(super) struct WireAnswer {
    /// Agency code of a member that calls here, or the address of the way up.
    peer: String,
    /// A lane (`emergency`, `content`, `directory`, `report`, `status`), or `media`, or `heads`.
    topic: String,
    /// From here to there.
    sent: FlowAnswer,
    /// From there to here.
    received: FlowAnswer,
}

/// One way.
#[derive(Serialize, ToSchema)]
pub(super) struct FlowAnswer {
    /// Requests and answers.
    messages: u64,
    /// Their bytes as sent, packed; without what HTTP/2 and TLS add.
    wire_bytes: u64,
    /// Sealed batches in them.
    entries: u64,
    /// Bytes of these before packing; of media, bytes of the file.
    content_bytes: u64,
}

/// One member of the exchange.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberAnswer {
    /// Agency code.
    code: String,
    name: String,
    /// `gateway`, `central`, `province`, `carrier` or `unknown`.
    kind: String,
    area: String,
    /// Fingerprints of its good keys.
    keys: Vec<String>,
    /// Who may carry for it.
    carriers: Vec<String>,
    /// Why it is suspended; absent: it is not.
    suspended: Option<String>,
}

/// One read model, live and rebuilt from nothing.
#[derive(Serialize, ToSchema)]
pub(super) struct Comparison {
    model: String,
    /// Entries folded into both.
    position: u64,
    live: String,
    rebuilt: String,
    equal: bool,
    /// `equal`, `differs` or `failed`.
    verdict: String,
    /// What is to be said of it; empty when they are equal.
    problem: String,
}

/// The read models.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelsAnswer {
    /// Entries folded.
    position: u64,
    models: Vec<ModelAnswer>,
    /// A comparison or rebuild under way.
    progress: Option<ProgressAnswer>,
}

/// One read model.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelAnswer {
    model: String,
    /// Version of the rules that it is folded by.
    version: u32,
    /// Why it stands still; empty while it does not.
    problem: String,
}

/// How far a comparison or rebuild is.
#[derive(Serialize, ToSchema)]
pub(super) struct ProgressAnswer {
    /// Entries passed by.
    position: u64,
    /// Entries there are.
    until: u64,
    /// Events folded.
    events: u64,
    events_per_second: u64,
}

#[utoipa::path(
    post, path = "/api/v1/session", tag = "session", operation_id = "node_log_in",
    summary = "Đăng nhập",
    description = "Opens a session. Repeated failures lock the name for a while (429).",
    request_body = Credentials,
    responses((status = 200, description = "The session", body = SessionAnswer)),
    security(()),
)]
pub(super) fn log_in() {}

#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session", operation_id = "node_log_out",
    summary = "Đăng xuất",
    description = "Ends the session.",
    responses((status = 204, description = "Ended")),
)]
pub(super) fn log_out() {}

#[utoipa::path(
    get, path = "/api/v1/me", tag = "session", operation_id = "node_me",
    summary = "Tài khoản đang dùng",
    description = "Who is logged in.",
    responses((status = 200, description = "The account", body = AccountAnswer)),
)]
pub(super) fn me() {}

#[utoipa::path(
    get, path = "/api/v1/log", tag = "node", operation_id = "node_log",
    summary = "Nhật ký của nút",
    description = "The log: its length, root, signed checkpoint and feeds. For operators and auditors.",
    responses((status = 200, description = "The log", body = LogAnswer)),
)]
pub(super) fn log() {}

#[utoipa::path(
    get, path = "/api/v1/link", tag = "node", operation_id = "node_link",
    summary = "Đường truyền tới NDXP",
    description = "Whether the exchange can be reached, and what is not level with it.",
    responses((status = 200, description = "The link", body = LinkAnswer)),
)]
pub(super) fn link() {}

#[utoipa::path(
    get, path = "/api/v1/wire", tag = "node", operation_id = "node_wire",
    summary = "Dung lượng đã truyền",
    description = "What went over the wire since the node started, by peer and lane.",
    responses((status = 200, description = "One line a peer and topic", body = Vec<WireAnswer>)),
)]
pub(super) fn wire() {}

#[utoipa::path(
    get, path = "/metrics", tag = "node", operation_id = "node_metrics",
    summary = "Số liệu cho hệ giám sát",
    description = "Figures in the text format of Prometheus, for who may read the audit trail; with `open_metrics` for \
                   anybody.",
    responses((status = 200, description = "The figures", body = String, content_type = "text/plain")),
)]
pub(super) fn metrics() {}

#[utoipa::path(
    get, path = "/api/v1/members", tag = "node", operation_id = "node_members",
    summary = "Danh bạ thành viên",
    description = "Everybody who takes part in the exchange.",
    responses((status = 200, description = "The members", body = Vec<MemberAnswer>)),
)]
pub(super) fn members() {}

#[utoipa::path(
    get, path = "/api/v1/storage", tag = "node", operation_id = "node_storage",
    summary = "Kho tệp: dung lượng và giới hạn",
    description = "How much of media is kept and may be, what was dropped to make room, what was lost. For operators and \
                   auditors.",
    responses((status = 200, description = "Use and limits", body = StorageAnswer)),
)]
pub(super) fn storage() {}

#[utoipa::path(
    post, path = "/api/v1/models/compare", tag = "node", operation_id = "node_compare",
    summary = "So sánh mô hình đọc với bản dựng lại",
    description = "Rebuilds every read model from nothing and compares. For operators and auditors.",
    responses((status = 200, description = "One line a model", body = Vec<Comparison>)),
)]
pub(super) fn compare() {}

#[utoipa::path(
    get, path = "/api/v1/models", tag = "node", operation_id = "node_models",
    summary = "Các mô hình đọc",
    description = "Which read models there are, how far they are, and how far a comparison or rebuild is. For operators \
                   and auditors.",
    responses((status = 200, description = "The models", body = ModelsAnswer)),
)]
pub(super) fn models() {}

#[utoipa::path(
    post, path = "/api/v1/models/rebuild", tag = "node", operation_id = "node_rebuild",
    summary = "Dựng lại mô hình đọc",
    description = "Rebuilds every read model from nothing, compares, and puts the rebuilt ones in place of the live ones. \
                   For operators and auditors.",
    responses((status = 200, description = "One line a model, as it was before", body = Vec<Comparison>)),
)]
pub(super) fn rebuild() {}

#[utoipa::path(
    get, path = "/api/v1/witness", tag = "node", operation_id = "node_witness",
    summary = "Xác nhận sổ ghi giữa các nút",
    description = "Who cosigned this log's checkpoints, and what this node cosigned of others. For operators and auditors.",
    responses((status = 200, description = "Witnessing", body = WitnessAnswer)),
)]
pub(super) fn witness() {}

#[utoipa::path(
    post, path = "/api/v1/witness/forget", tag = "node", operation_id = "node_witness_forget",
    summary = "Bắt đầu lại với sổ ghi của một nút khác",
    description = "Forgets what was cosigned of a log, which was restored or begun anew by its owner. It is recorded, with \
                   the reason. For operators.",
    request_body = Forget,
    responses((status = 204, description = "Forgotten")),
)]
pub(super) fn forget() {}

/// What became of a file of feeds.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportReport {
    /// Nothing was wrong; also when everything was held already.
    ok: bool,
    /// Who made the file, and for whom.
    maker: Option<String>,
    reader: Option<String>,
    made_at_ms: Option<i64>,
    /// It was made for somebody else. What this node may read of it was taken all the same.
    for_somebody_else: bool,
    /// Its maker had no room for all entries; the next file goes on.
    more: bool,
    feeds: Vec<FeedReport>,
    media: Vec<MediaReport>,
    /// What is wrong with the file. What came before that place was taken.
    broken: Option<BrokenReport>,
}

/// One feed of a file.
#[derive(Serialize, ToSchema)]
pub(super) struct FeedReport {
    feed: String,
    /// First and last sequence in the file.
    first: u64,
    last: u64,
    /// Entries taken, and those that were held already.
    taken: u64,
    held: u64,
    /// Where the feed stands here now.
    head: u64,
    /// `taken`, `held`, `gap`, `not-for-this-node`, `unknown-key`, `other-exchange`, `forked`, `refused`, `unavailable`
    /// or `missing`.
    outcome: String,
    message: String,
    message_en: String,
}

/// One media file of a file of feeds.
#[derive(Serialize, ToSchema)]
pub(super) struct MediaReport {
    sha256: String,
    size: u64,
    /// Bytes held here now.
    held: u64,
    /// `complete`, `part`, `gap`, `absent` or `refused`.
    outcome: String,
    message: String,
    message_en: String,
}

/// Where a file is damaged.
#[derive(Serialize, ToSchema)]
pub(super) struct BrokenReport {
    offset: u64,
    message: String,
    message_en: String,
}

#[utoipa::path(
    post, path = "/api/v1/feeds/import", tag = "node", operation_id = "node_import",
    summary = "Nhập tệp dữ liệu mang bằng tay",
    description = "Takes a file made by `httt feed export` or by another node's `/api/v1/feeds/export`. What was good \
                   before a damaged place is kept. For operators.",
    request_body(content = inline(FileShape), content_type = "application/octet-stream"),
    responses((status = 200, description = "What became of it, by feed; see `ok`", body = ImportReport)),
)]
pub(super) fn import() {}

#[utoipa::path(
    post, path = "/api/v1/feeds/export", tag = "node", operation_id = "node_export",
    summary = "Xuất tệp dữ liệu mang bằng tay",
    description = "Makes a file of entries and media for a member. The body is empty, or an earlier file: one that the \
                   reader made, or the one made for it before; what it tells the reader holds is left out. For operators.",
    params(
        ("for" = String, Query, description = "agency code of the reader"),
        ("feed" = Option<String>, Query, description = "only these feeds, separated by commas"),
        ("lane" = Option<String>, Query, description = "only these lanes, separated by commas"),
        ("after" = Option<u64>, Query, description = "begin after this sequence; with one feed"),
        ("media" = Option<bool>, Query, description = "whether media files go along; default true"),
        ("max_bytes" = Option<u64>, Query, description = "the file must not be larger"),
    ),
    request_body(content = inline(FileShape), content_type = "application/octet-stream"),
    responses((status = 200, description = "The file", body = inline(FileShape), content_type = "application/octet-stream")),
)]
pub(super) fn export() {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use httt_node::exchange::carry;
    use httt_node::{api, models, tlog};
    use serde::Serialize;
    use utoipa::PartialSchema;

    use super::*;

    fn assert_described<S: PartialSchema>(real: impl Serialize) {
        let schema = serde_json::to_value(S::schema()).expect("schema");
        let described: BTreeSet<&String> = schema["properties"].as_object().expect("object").keys().collect();
        let real = serde_json::to_value(real).expect("JSON");
        assert_eq!(described, real.as_object().expect("object").keys().collect());
    }

    #[test]
    fn shapes_are_those_of_the_node() {
        let text = String::new;
        let account = || api::AccountAnswer { account: text(), roles: vec![], area: text() };
        assert_described::<AccountAnswer>(account());
        assert_described::<SessionAnswer>(api::SessionAnswer { token: text(), ends_at_ms: 0, account: account() });
        assert_described::<LogAnswer>(api::LogAnswer {
            member: text(),
            log_id: text(),
            entries: 0,
            root: text(),
            checkpoint: Default::default(),
            key_fingerprint: text(),
            key_offer: None,
            feeds: vec![],
        });
        assert_described::<KeyOfferAnswer>(api::KeyOfferAnswer { fingerprint: text(), times: 1, again_at_ms: 0 });
        assert_described::<WitnessAnswer>(tlog::WitnessAnswer {
            log_key: text(),
            cosigner_key: text(),
            cosigned_size: None,
            cosigners: vec![],
            alarm: None,
            watched: vec![],
        });
        assert_described::<WatchedAnswer>(tlog::WatchedAnswer {
            origin: text(),
            size: None,
            cosigned_at_ms: None,
            refused: 0,
            last_refusal: None,
        });
        assert_described::<FeedAnswer>(api::FeedAnswer { feed: text(), begins: 1, sequence: 0, digest: text() });
        assert_described::<LinkAnswer>(api::LinkAnswer {
            connected: false,
            behind: vec![],
            stopped: vec![],
            unreceipted: vec![],
        });
        assert_described::<UnreceiptedAnswer>(api::UnreceiptedAnswer { feed: text(), here: 0, receipted: 0 });
        assert_described::<BehindAnswer>(api::BehindAnswer { feed: text(), here: 0, there: 0 });
        let flow = || httt_node::wire::FlowAnswer { messages: 0, wire_bytes: 0, entries: 0, content_bytes: 0 };
        assert_described::<FlowAnswer>(flow());
        assert_described::<WireAnswer>(httt_node::wire::WireAnswer {
            peer: text(),
            topic: text(),
            sent: flow(),
            received: flow(),
        });
        assert_described::<MemberAnswer>(api::MemberAnswer {
            code: text(),
            name: text(),
            kind: "province",
            area: text(),
            keys: vec![],
            carriers: vec![],
            suspended: Some(text()),
        });
        assert_described::<Comparison>(models::Comparison {
            model: "drafts",
            position: 0,
            live: text(),
            rebuilt: text(),
            equal: true,
            verdict: models::Verdict::Equal,
            problem: text(),
        });
        let members = vec![api::MemberPartsAnswer { member: String::new(), parts: 0, bytes: 0 }];
        assert_described::<MemberPartsAnswer>(&members[0]);
        assert_described::<StorageAnswer>(api::StorageAnswer {
            store: "folder",
            files: 0,
            file_bytes: 0,
            parts: 0,
            part_bytes: 0,
            max_file_bytes: 0,
            max_store_bytes: 0,
            max_member_parts: 0,
            max_member_part_bytes: 0,
            dropped: 0,
            lost: 0,
            members,
        });
        assert_described::<ImportReport>(carry::ImportReport {
            ok: true,
            maker: None,
            reader: None,
            made_at_ms: None,
            for_somebody_else: false,
            more: false,
            feeds: vec![],
            media: vec![],
            broken: None,
        });
        assert_described::<FeedReport>(carry::FeedReport {
            feed: text(),
            first: 0,
            last: 0,
            taken: 0,
            held: 0,
            head: 0,
            outcome: "taken",
            message: text(),
            message_en: text(),
        });
        assert_described::<MediaReport>(carry::MediaReport {
            sha256: text(),
            size: 0,
            held: 0,
            outcome: "complete",
            message: text(),
            message_en: text(),
        });
        let broken = carry::BrokenReport { offset: 0, message: text(), message_en: text() };
        assert_described::<BrokenReport>(broken);
        assert_described::<ModelsAnswer>(api::ModelsAnswer { position: 0, models: vec![], progress: None });
        assert_described::<ModelAnswer>(api::ModelAnswer { model: "drafts", version: 1, problem: text() });
        assert_described::<ProgressAnswer>(api::ProgressAnswer {
            position: 0,
            until: 0,
            events: 0,
            events_per_second: 0,
        });
    }
}
