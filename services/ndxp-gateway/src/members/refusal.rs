//! Why an operator's command is refused, in words of the field it is about.

use axum::http::StatusCode;
use httt_feed::{AgencyCode, FeedId, KeyError};
use httt_node::exchange::carry::FormatError;
use httt_node::http::ApiError;

/// A refusal. [`Display`](std::fmt::Display) is the English message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields of the variants are what their messages say.
pub enum Refusal {
    #[error("{field}: nothing was given. Please fill it in.")]
    Required { field: &'static str },
    #[error("{field}: {given} bytes given, at most {max} are allowed. Please shorten it.")]
    TooLong { field: &'static str, given: usize, max: usize },
    #[error("{field}: {given:?} is not an agency code such as H24 or H24.12.")]
    NotACode { field: &'static str, given: String },
    #[error("{field}: {given} is not a member. Enrol it first, or check the code with `httt member list`.")]
    NotAMember { field: &'static str, given: AgencyCode },
    #[error("member: {0} says already what was given. There is nothing to change.")]
    NothingNew(AgencyCode),
    #[error("kind: this exchange has one gateway, and enrols it itself.")]
    SecondGateway,
    #[error("kind: {0} is a member of another kind, which does not change. Enrol the new one under a code of its own.")]
    KindIsFixed(AgencyCode),
    #[error("keys: a new member needs at least one key.")]
    KeyNeeded,
    #[error("{field}: {cause}")]
    BadKey { field: &'static str, cause: KeyError },
    #[error("{field}: the key is {member}'s already. Each member makes a key of its own.")]
    KeyTaken { field: &'static str, member: AgencyCode },
    #[error("{field}: the key was revoked, and a revoked key never comes back. The member makes a new one.")]
    RevokedKey { field: &'static str },
    #[error("{field}: a member has at most {max} good keys. Revoke those that are out of use.")]
    TooManyKeys { field: &'static str, max: usize },
    #[error("fingerprint: {member} has no such key. `httt member show {member}` lists its keys.")]
    UnknownKey { member: AgencyCode },
    #[error("fingerprint: the key is revoked already.")]
    AlreadyRevoked,
    #[error(
        "fingerprint: this exchange seals with that key. Change it first (`httt key rotate` on the gateway), \
             which revokes the old one by itself."
    )]
    KeyInUse,
    #[error("certificate: neither a certificate in PEM form nor a SHA-256 of 64 hexadecimal digits.")]
    NotACertificate,
    #[error("certificate: it names {}, not {member} (SAN urn:httt:member:{member}).", name_of(.named))]
    CertificateOfAnother { member: AgencyCode, named: Option<AgencyCode> },
    #[error("certificate: it is {member}'s already.")]
    CertificateKnown { member: AgencyCode },
    #[error("certificate: it was revoked, and a revoked certificate never comes back. The member gets a new one.")]
    RevokedCertificate,
    #[error("certificate: a member has at most {max}.")]
    TooManyCertificates { max: usize },
    #[error("member: the exchange cannot be suspended from itself.")]
    OwnNode,
    #[error("member: {0} is suspended already.")]
    AlreadySuspended(AgencyCode),
    #[error("member: {0} is not suspended.")]
    NotSuspended(AgencyCode),
    #[error("carrier: {0} is no carrier; only members of that kind (LGSP adapters) carry for others.")]
    NotACarrier(AgencyCode),
    #[error("carrier: {carrier} carries for {member} already.")]
    CarriesAlready { member: AgencyCode, carrier: AgencyCode },
    #[error("carrier: {carrier} does not carry for {member}.")]
    DoesNotCarry { member: AgencyCode, carrier: AgencyCode },
    #[error("lane: {0:?} is none that can be read by others. Lanes: emergency, content, directory, report, status.")]
    NotALane(String),
    #[error("reader: this right is granted already.")]
    GrantedAlready,
    #[error("reader: no such right was granted. `httt member show` lists rights; give the same four parts.")]
    NotGranted,
    #[error("file: {0}. Copy it again, or have the member make it again.")]
    BadFile(FormatError),
    #[error("file: {feed} has an entry that {feed_origin} cannot have made: {cause}. Find out who made the file.",
            feed_origin = .feed.origin)]
    BadEntry { feed: FeedId, cause: httt_feed::Refusal },
    #[error("file: it has no batch of {0}'s own. The member makes it with `httt feed export`.")]
    NothingInFile(AgencyCode),
    #[error(
        "file: {feed} begins with sequence {got}, the exchange needs it from {expected} on. The member makes the file \
         again from there (without --since and --after, or with those of a file that the exchange made)."
    )]
    FileGap { feed: FeedId, expected: u64, got: u64 },
    #[error(
        "file: {feed} sequence {sequence} does not follow the batch before it in the file. The member makes it again."
    )]
    NotAChain { feed: FeedId, sequence: u64 },
    #[error(
        "file: of {feed} the exchange has received another sequence {sequence} than the file has. Somebody else with the \
         key was first, or the file is not the member's: its feed cannot go on; see docs/members.md."
    )]
    OtherReceived { feed: FeedId, sequence: u64 },
    #[error(
        "file: another batch was admitted for sequence {sequence} of {feed}. Find out which history is the member's."
    )]
    OtherAdmitted { feed: FeedId, sequence: u64 },
    #[error(
        "file: no batch of {0} is kept out by a revoked key alone. Import it; `httt feed import` says what is wrong."
    )]
    NothingKeptOut(AgencyCode),
    #[error("file: {given} batches of the member would be admitted in all, at most {max} are. Begin its log anew.")]
    TooManyAdmitted { given: usize, max: usize },
    #[error("member: what this exchange says itself is never admitted.")]
    OwnBatches,
    #[error("admission: no file was read under this name, or too long ago. Send the file again.")]
    AdmissionUnknown,
    #[error("admission: {feed} went on at the exchange since the file was read. Send the file again.")]
    ExchangeMoved { feed: FeedId },
    #[error("admission: all of these batches are admitted already.")]
    AdmittedAlready,
}

fn name_of(member: &Option<AgencyCode>) -> String {
    member.as_ref().map_or_else(|| "no member".to_owned(), ToString::to_string)
}

impl Refusal {
    /// JSON path of the field of the command.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Required { field }
            | Self::TooLong { field, .. }
            | Self::NotACode { field, .. }
            | Self::NotAMember { field, .. }
            | Self::BadKey { field, .. }
            | Self::KeyTaken { field, .. }
            | Self::RevokedKey { field }
            | Self::TooManyKeys { field, .. } => field,
            Self::NothingNew(_) | Self::OwnNode | Self::AlreadySuspended(_) | Self::NotSuspended(_) => "member",
            Self::SecondGateway | Self::KindIsFixed(_) => "kind",
            Self::KeyNeeded => "keys",
            Self::UnknownKey { .. } | Self::AlreadyRevoked | Self::KeyInUse => "fingerprint",
            Self::NotACertificate
            | Self::CertificateOfAnother { .. }
            | Self::CertificateKnown { .. }
            | Self::RevokedCertificate
            | Self::TooManyCertificates { .. } => "certificate",
            Self::NotACarrier(_) | Self::CarriesAlready { .. } | Self::DoesNotCarry { .. } => "carrier",
            Self::NotALane(_) => "lane",
            Self::GrantedAlready | Self::NotGranted => "reader",
            Self::BadFile(_)
            | Self::BadEntry { .. }
            | Self::NothingInFile(_)
            | Self::FileGap { .. }
            | Self::NotAChain { .. }
            | Self::OtherReceived { .. }
            | Self::OtherAdmitted { .. }
            | Self::NothingKeptOut(_)
            | Self::TooManyAdmitted { .. } => "file",
            Self::OwnBatches => "member",
            Self::AdmissionUnknown | Self::ExchangeMoved { .. } | Self::AdmittedAlready => "admission",
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Required { .. } | Self::KeyNeeded => "required",
            Self::TooLong { .. } => "too-long",
            Self::NotACode { .. } | Self::NotACertificate | Self::NotALane(_) => "malformed",
            Self::NotAMember { .. } => "not-a-member",
            Self::NothingNew(_)
            | Self::AlreadyRevoked
            | Self::CertificateKnown { .. }
            | Self::AlreadySuspended(_)
            | Self::NotSuspended(_)
            | Self::CarriesAlready { .. }
            | Self::DoesNotCarry { .. }
            | Self::GrantedAlready
            | Self::NotGranted
            | Self::NothingKeptOut(_)
            | Self::AdmittedAlready => "nothing-to-change",
            Self::SecondGateway | Self::OwnNode | Self::OwnBatches => "own-node",
            Self::KindIsFixed(_) => "kind-is-fixed",
            Self::BadKey { .. } => "bad-key",
            Self::KeyTaken { .. } => "key-taken",
            Self::RevokedKey { .. } => "revoked-key",
            Self::TooManyKeys { .. } | Self::TooManyCertificates { .. } | Self::TooManyAdmitted { .. } => "too-many",
            Self::UnknownKey { .. } => "unknown-key",
            Self::KeyInUse => "key-in-use",
            Self::CertificateOfAnother { .. } => "certificate-of-another",
            Self::RevokedCertificate => "revoked-certificate",
            Self::NotACarrier(_) => "not-a-carrier",
            Self::BadFile(_) | Self::NotAChain { .. } => "bad-file",
            Self::BadEntry { .. } => "bad-entry",
            Self::NothingInFile(_) => "not-in-file",
            Self::FileGap { .. } => "gap",
            Self::OtherReceived { .. } => "other-received",
            Self::OtherAdmitted { .. } => "other-admitted",
            Self::AdmissionUnknown => "unknown-admission",
            Self::ExchangeMoved { .. } => "exchange-moved",
        }
    }

    /// The Vietnamese message.
    pub fn vi(&self) -> String {
        match self {
            Self::Required { field } => format!("Mục “{}” chưa có dữ liệu. Đề nghị nhập.", label(field)),
            Self::TooLong { field, given, max } => {
                format!("Mục “{}” dài {given} byte, tối đa {max} byte. Đề nghị rút ngắn.", label(field))
            }
            Self::NotACode { field, given } => {
                format!("Mục “{}”: {given:?} không phải mã cơ quan, ví dụ H24 hoặc H24.12.", label(field))
            }
            Self::NotAMember { field, given } => {
                format!(
                    "Mục “{}”: {given} không phải thành viên. Đề nghị kết nạp trước hoặc kiểm tra mã.",
                    label(field)
                )
            }
            Self::NothingNew(member) => format!("Thông tin của {member} đã đúng như vậy, không có gì thay đổi."),
            Self::SecondGateway => "Sàn trao đổi chỉ có một và tự ghi danh.".to_owned(),
            Self::KindIsFixed(member) => {
                format!("{member} là thành viên loại khác; loại không thay đổi được. Hãy dùng một mã riêng.")
            }
            Self::KeyNeeded => "Thành viên mới cần ít nhất một khoá.".to_owned(),
            Self::BadKey { cause, .. } => format!("Khoá không dùng được: {cause}."),
            Self::KeyTaken { member, .. } => format!("Khoá này là của {member}. Mỗi thành viên tự tạo khoá riêng."),
            Self::RevokedKey { .. } => {
                "Khoá này đã bị thu hồi; khoá đã thu hồi không dùng lại được. Thành viên cần tạo khoá mới.".to_owned()
            }
            Self::TooManyKeys { max, .. } => {
                format!("Mỗi thành viên có tối đa {max} khoá còn hiệu lực. Hãy thu hồi khoá không dùng nữa.")
            }
            Self::UnknownKey { member } => format!("{member} không có khoá này."),
            Self::AlreadyRevoked => "Khoá này đã bị thu hồi từ trước.".to_owned(),
            Self::KeyInUse => "Sàn đang ký bằng khoá này. Hãy đổi khoá trước (`httt key rotate` trên sàn).".to_owned(),
            Self::NotACertificate => {
                "Không phải chứng thư dạng PEM, cũng không phải SHA-256 (64 chữ số hex).".to_owned()
            }
            Self::CertificateOfAnother { member, named } => {
                let named = named.as_ref().map_or_else(|| "không tên thành viên nào".to_owned(), ToString::to_string);
                format!("Chứng thư ghi tên {named}, không phải {member} (SAN urn:httt:member:{member}).")
            }
            Self::CertificateKnown { member } => format!("Chứng thư này đã được ghi cho {member}."),
            Self::RevokedCertificate => {
                "Chứng thư này đã bị thu hồi và không dùng lại được. Thành viên cần chứng thư mới.".to_owned()
            }
            Self::TooManyCertificates { max } => format!("Mỗi thành viên có tối đa {max} chứng thư."),
            Self::OwnNode => "Không thể đình chỉ chính sàn trao đổi.".to_owned(),
            Self::AlreadySuspended(member) => format!("{member} đã bị đình chỉ từ trước."),
            Self::NotSuspended(member) => format!("{member} không bị đình chỉ."),
            Self::NotACarrier(given) => {
                format!("{given} không phải bên chuyển tiếp (LGSP); chỉ loại đó chuyển thay được.")
            }
            Self::CarriesAlready { member, carrier } => format!("{carrier} đã chuyển thay cho {member}."),
            Self::DoesNotCarry { member, carrier } => format!("{carrier} không chuyển thay cho {member}."),
            Self::NotALane(given) => format!(
                "{given:?} không phải làn mà người khác đọc được. Các làn: emergency, content, directory, report, status."
            ),
            Self::GrantedAlready => "Quyền đọc này đã được cấp.".to_owned(),
            Self::NotGranted => "Chưa cấp quyền đọc này. Hãy ghi đủ bốn phần như khi cấp.".to_owned(),
            Self::BadFile(error) => format!("Tệp từ byte {}: {}.", error.offset, error.fault.vi()),
            Self::BadEntry { feed, cause } => {
                format!(
                    "{feed} trong tệp có bản ghi không thể do {} lập ({cause}). Hãy tìm hiểu ai làm ra tệp.",
                    feed.origin
                )
            }
            Self::NothingInFile(member) => {
                format!("Tệp không có lô nào của chính {member}. Thành viên xuất tệp bằng `httt feed export`.")
            }
            Self::FileGap { feed, expected, got } => {
                format!(
                    "{feed} trong tệp bắt đầu từ số {got}, sàn cần từ số {expected}. Thành viên hãy xuất lại từ đó."
                )
            }
            Self::NotAChain { feed, sequence } => {
                format!("{feed} trong tệp: số {sequence} không nối tiếp số trước đó. Thành viên hãy xuất lại tệp.")
            }
            Self::OtherReceived { feed, sequence } => format!(
                "{feed}: sàn đã nhận một lô số {sequence} khác với lô trong tệp. Kẻ khác có khoá đã gửi trước, hoặc tệp \
                 không phải của thành viên; luồng này không nối tiếp được (xem docs/members.md)."
            ),
            Self::OtherAdmitted { feed, sequence } => format!(
                "{feed}: đã chấp nhận một lô số {sequence} khác. Hãy tìm hiểu đâu là dữ liệu thật của thành viên."
            ),
            Self::NothingKeptOut(member) => {
                format!("Không có lô nào của {member} bị từ chối chỉ vì khoá đã thu hồi. Hãy nhập tệp như bình thường.")
            }
            Self::TooManyAdmitted { given, max } => {
                format!("Tổng số lô được chấp nhận của thành viên sẽ là {given}, tối đa {max}. Phải lập lại nhật ký.")
            }
            Self::OwnBatches => "Không chấp nhận lô của chính sàn trao đổi.".to_owned(),
            Self::AdmissionUnknown => "Chưa đọc tệp nào có mã này, hoặc đã quá lâu. Hãy gửi lại tệp.".to_owned(),
            Self::ExchangeMoved { feed } => format!("{feed} ở sàn đã thay đổi từ khi đọc tệp. Hãy gửi lại tệp."),
            Self::AdmittedAlready => "Các lô này đã được chấp nhận từ trước.".to_owned(),
        }
    }
}

/// What a form calls the field in Vietnamese.
fn label(field: &str) -> &str {
    match field {
        "member" => "thành viên",
        "name" => "tên",
        "area" => "địa bàn",
        "keys" | "key" => "khoá",
        "certificate" => "chứng thư",
        "reader" => "bên đọc",
        "origin" => "nguồn",
        "audience" => "bên nhận",
        "carrier" => "bên chuyển tiếp",
        "reason" => "lý do",
        other => other,
    }
}

/// 409 when things are so already or changed meanwhile, otherwise 422.
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code() {
            "nothing-to-change" | "key-in-use" | "exchange-moved" => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let en = refusal.to_string();
        Self::new(status, "refused", refusal.vi(), en).with_code(refusal.code()).with_field(refusal.field())
    }
}
