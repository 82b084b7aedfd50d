use httt_domain::accounts::{Actor, Role};
use httt_domain::area::Areas;
use httt_domain::bulletin::{Command, Content, Context, Detail, Draft, DraftEvent, Kind, Media, Priority, Stage};
use httt_domain::{Lane, MAX_EVENT_BYTES, Refusals};
use httt_wire::Message;
use proptest::prelude::*;

pub(crate) const NOW: i64 = 1_790_000_000_000;

pub(crate) fn actor(account: &str, role: Role) -> Actor<'_> {
    Actor { account, role, area: "31" }
}

fn context(actor: Actor<'_>) -> Context<'_> {
    Context { actor, now_ms: NOW, areas: Areas::in_force_2025(), home: "31" }
}

pub(crate) fn text(priority: Priority) -> Content {
    Content { title: "Lịch cắt điện".into(), body: "Từ 8 giờ.".into(), priority, ..Content::default() }
}

/// Decides and takes in what was decided, as a service does.
fn give(draft: &mut Draft, account: &str, role: Role, command: &Command) -> Result<Vec<DraftEvent>, Refusals> {
    let events = draft.decide(command, &context(actor(account, role)))?;
    for event in &events {
        let wire = event.to_domain("b1");
        assert_eq!(DraftEvent::decode(wire.lane as i32, &wire.kind, &wire.data).as_ref(), Some(event));
        draft.evolve(event, account, NOW);
    }
    Ok(events)
}

fn create(content: Content) -> Command {
    Command::Create { bulletin: "b1".into(), content }
}

fn submitted(content: Content) -> Draft {
    let mut draft = Draft::default();
    give(&mut draft, "an", Role::Author, &create(content)).expect("created");
    give(&mut draft, "an", Role::Author, &Command::Submit).expect("submitted");
    draft
}

fn refused(content: Content) -> Refusals {
    give(&mut Draft::default(), "an", Role::Author, &create(content)).expect_err("refused")
}

#[test]
fn an_ordinary_bulletin_is_approved_then_published_in_the_content_lane() {
    let mut draft = submitted(text(Priority::Ordinary));
    let events = give(&mut draft, "binh", Role::Approver, &Command::Approve { step_up: false }).expect("approved");
    assert_eq!((events.len(), draft.stage), (1, Stage::Approved));
    let events = give(&mut draft, "an", Role::Author, &Command::Publish).expect("published");
    let [DraftEvent::Published(_), DraftEvent::BulletinPublished(Lane::Content, shared)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((shared.version, shared.author.as_str(), shared.approver.as_str()), (1, "an", "binh"));
    assert_eq!(events[1].to_domain("b1").stream, "bulletin/b1");
    assert_eq!((events[0].to_domain("b1").stream.as_str(), events[0].to_domain("b1").lane), ("draft/b1", Lane::Local));
}

#[test]
fn an_emergency_is_published_by_its_approval_with_a_one_time_code() {
    let mut draft = submitted(text(Priority::Emergency));
    let refusals = give(&mut draft, "binh", Role::Approver, &Command::Approve { step_up: false }).expect_err("no code");
    assert!(refusals.has("step-up-needed") && refusals.vi().contains("6 chữ số"));
    let events = give(&mut draft, "binh", Role::Approver, &Command::Approve { step_up: true }).expect("approved");
    assert!(matches!(
        events.as_slice(),
        [DraftEvent::Approved(_), DraftEvent::Published(_), DraftEvent::BulletinPublished(Lane::Emergency, _)]
    ));
    let withdraw = Command::Withdraw { reason: "đã an toàn".into() };
    let events = give(&mut draft, "binh", Role::Approver, &withdraw).expect("withdrawn");
    assert!(matches!(events.as_slice(), [DraftEvent::BulletinWithdrawn(Lane::Emergency, _)]));
    assert_eq!(draft.stage, Stage::Withdrawn);
    assert!(give(&mut draft, "binh", Role::Approver, &withdraw).expect_err("twice").has("wrong-state"));
}

#[test]
fn a_correction_is_a_new_version_in_the_same_lane() {
    let mut draft = submitted(text(Priority::Ordinary));
    let approve = Command::Approve { step_up: false };
    give(&mut draft, "binh", Role::Approver, &approve).expect("approved");
    give(&mut draft, "binh", Role::Approver, &Command::Publish).expect("published");
    let emergency = Command::Edit { content: text(Priority::Emergency) };
    assert!(give(&mut draft, "an", Role::Author, &emergency).expect_err("lane").has("emergency-is-fixed"));
    let corrected = Content { title: "Đính chính".into(), ..text(Priority::Priority) };
    give(&mut draft, "an", Role::Author, &Command::Edit { content: corrected }).expect("edited");
    give(&mut draft, "an", Role::Author, &Command::Submit).expect("submitted");
    give(&mut draft, "binh", Role::Approver, &approve).expect("approved");
    let events = give(&mut draft, "binh", Role::Approver, &Command::Publish).expect("published");
    assert!(matches!(&events[1], DraftEvent::BulletinPublished(Lane::Content, shared) if shared.version == 2));
}

#[test]
fn a_rejected_correction_does_not_freeze_what_is_published() {
    let mut draft = submitted(text(Priority::Ordinary));
    let approve = Command::Approve { step_up: false };
    give(&mut draft, "binh", Role::Approver, &approve).expect("approved");
    give(&mut draft, "binh", Role::Approver, &Command::Publish).expect("published");
    let edit = Command::Edit { content: text(Priority::Priority) };
    give(&mut draft, "an", Role::Author, &edit).expect("edited");
    give(&mut draft, "an", Role::Author, &Command::Submit).expect("submitted");
    give(&mut draft, "binh", Role::Approver, &Command::Reject { reason: "sai ngày".into() }).expect("rejected");
    assert_eq!((draft.stage, draft.published_version), (Stage::Rejected, 1));
    // Not the same thing again: it is changed first.
    assert!(give(&mut draft, "an", Role::Author, &Command::Submit).expect_err("unchanged").has("wrong-state"));
    give(&mut draft, "an", Role::Author, &edit).expect("a better correction");
    give(&mut draft, "an", Role::Author, &Command::Submit).expect("submitted");
    give(&mut draft, "binh", Role::Approver, &approve).expect("approved");
    give(&mut draft, "binh", Role::Approver, &Command::Publish).expect("published");
    assert_eq!((draft.stage, draft.published_version, draft.reason.as_str()), (Stage::Published, 2, ""));
}

#[test]
fn returning_and_rejecting_need_a_reason() {
    for command in [Command::Return { reason: " ".into() }, Command::Reject { reason: String::new() }] {
        let refusals =
            give(&mut submitted(text(Priority::Ordinary)), "binh", Role::Approver, &command).expect_err("none");
        assert!(refusals.has("required") && refusals.vi().contains("“Lý do”"), "{refusals}");
    }
    let mut draft = submitted(text(Priority::Ordinary));
    give(&mut draft, "binh", Role::Approver, &Command::Return { reason: "sai ngày".into() }).expect("returned");
    assert_eq!((draft.stage, draft.reason.as_str()), (Stage::Returned, "sai ngày"));
    give(&mut draft, "an", Role::Author, &Command::Submit).expect("again");
    give(&mut draft, "binh", Role::Approver, &Command::Reject { reason: "trùng".into() }).expect("rejected");
    let edit = Command::Edit { content: text(Priority::Ordinary) };
    let refusals = give(&mut draft, "an", Role::Author, &edit).expect_err("over");
    assert_eq!(refusals.vi(), "Không thể sửa khi bản tin đã bị từ chối.");
}

#[test]
fn time_passes_between_approval_and_publication() {
    let mut draft = submitted(Content { valid_until_ms: NOW + 1, ..text(Priority::Ordinary) });
    give(&mut draft, "binh", Role::Approver, &Command::Approve { step_up: false }).expect("approved");
    let later = Context { now_ms: NOW + 1, ..context(actor("binh", Role::Approver)) };
    assert!(draft.decide(&Command::Publish, &later).expect_err("expired").has("passed"));
}

#[test]
fn each_mistake_in_the_content_names_its_field() {
    let media = || Media {
        sha256: "ab".repeat(32),
        size: 1,
        content_type: "audio/mpeg".into(),
        name: String::new(),
        duration_ms: 0,
    };
    let audio = |media| Content { kind: Kind::Audio, media, ..text(Priority::Ordinary) };
    let base = || text(Priority::Ordinary);
    let cases = [
        (Content { title: "  ".into(), ..base() }, "required", "content.title", "“Tiêu đề”"),
        (Content { title: "đ".repeat(301), ..base() }, "too-long", "content.title", "dài 301 ký tự"),
        (Content { body: String::new(), ..base() }, "required", "content.body", "“Nội dung”"),
        (Content { body: "ế".repeat(11_000), ..base() }, "too-long", "content.body", "33.000 byte"),
        (Content { summary: "x".repeat(2_001), ..base() }, "too-long", "content.summary", "“Tóm tắt”"),
        (Content { language: "tiếng Việt".into(), ..base() }, "malformed", "content.language", "“Ngôn ngữ”"),
        (
            Content { produced_at_ms: NOW + 90_000_000, ..base() },
            "malformed",
            "content.produced_at_ms",
            "“Thời gian sản xuất”",
        ),
        (Content { valid_until_ms: NOW, ..base() }, "passed", "content.valid_until_ms", "“Có hiệu lực đến”"),
        (Content { target_areas: vec!["99999".into()], ..base() }, "unknown-area", "content.target_areas[0]", "99999"),
        (
            Content { target_areas: vec!["19".into()], ..base() },
            "area-outside",
            "content.target_areas[0]",
            "Tỉnh Thái Nguyên",
        ),
        (
            Content { target_areas: vec!["10525".into(), "10525".into()], ..base() },
            "duplicate",
            "content.target_areas[1]",
            "Phường Hải Dương",
        ),
        (audio(None), "media-needed", "content.media", "“Tệp kèm theo”"),
        (audio(Some(Media { sha256: "ab".into(), ..media() })), "malformed", "content.media.sha256", "SHA-256"),
        (audio(Some(Media { size: 0, ..media() })), "out-of-range", "content.media.size", "1.073.741.824"),
        (
            audio(Some(Media { content_type: "video/mp4".into(), ..media() })),
            "malformed",
            "content.media.content_type",
            "audio/",
        ),
        (Content { media: Some(media()), ..base() }, "media-not-allowed", "content.media", "không có tệp"),
        (
            Content { details: vec![Detail { name: String::new(), value: "x".into() }], ..base() },
            "required",
            "content.details[0].name",
            "“Thông tin chi tiết”",
        ),
    ];
    for (content, code, field, words) in cases {
        let refusals = refused(content);
        let [refusal] = refusals.0.as_slice() else { panic!("one mistake, not {refusals}") };
        assert_eq!((refusal.code(), refusal.field()), (code, field), "{refusal}");
        assert!(refusal.vi().contains(words), "{}", refusal.vi());
        assert!(!refusal.en().is_empty());
    }
    assert!(give(&mut Draft::default(), "an", Role::Author, &create(audio(Some(media())))).is_ok());
}

#[test]
fn all_mistakes_come_at_once_as_json() {
    let refusals = refused(Content { title: String::new(), language: "?".into(), ..text(Priority::Ordinary) });
    let json = serde_json::to_value(&refusals).expect("json");
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    assert_eq!(json[0]["code"], "required");
    assert_eq!(json[0]["field"], "content.title");
    assert_eq!(json[0]["vi"], "Mục “Tiêu đề” chưa có dữ liệu. Đề nghị nhập.");
}

#[test]
fn an_event_never_outgrows_the_log() {
    let detail = Detail { name: "tên".into(), value: "ế".repeat(500) };
    let big = Content { body: "x".repeat(32 * 1024), details: vec![detail; 20], ..text(Priority::Ordinary) };
    assert!(refused(big.clone()).has("event-too-large"));
    let fits = Content { details: Vec::new(), ..big };
    let events = give(&mut Draft::default(), "an", Role::Author, &create(fits)).expect("fits");
    assert!(events[0].to_domain("b1").data.len() < MAX_EVENT_BYTES);
}

#[test]
fn roles_and_areas_hold() {
    let refusals =
        give(&mut submitted(text(Priority::Ordinary)), "cu", Role::Author, &Command::Approve { step_up: true });
    let refusals = refusals.expect_err("role");
    assert!(refusals.has("not-allowed") && refusals.vi().contains("biên tập"), "{}", refusals.vi());
    // A commune's officer speaks for the commune, not for the province.
    let officer = Actor { account: "xa", role: Role::CommuneOfficer, area: "10525" };
    let whole =
        Draft::default().decide(&create(text(Priority::Ordinary)), &context(officer)).expect_err("whole province");
    assert_eq!(whole.0[0].field(), "content.target_areas");
    let own = Content { target_areas: vec!["10525".into()], ..text(Priority::Ordinary) };
    assert!(Draft::default().decide(&create(own), &context(officer)).is_ok());
    let approver = Actor { account: "xa2", role: Role::Approver, area: "10525" };
    let draft = submitted(text(Priority::Ordinary));
    let refusals = draft.decide(&Command::Approve { step_up: false }, &context(approver)).expect_err("reach");
    assert!(refusals.has("area-outside"));
}

#[test]
fn a_bad_identifier_is_refused() {
    for bulletin in ["", "a/b", "b 1", &"x".repeat(65)] {
        let command = Command::Create { bulletin: bulletin.into(), content: text(Priority::Ordinary) };
        assert!(give(&mut Draft::default(), "an", Role::Author, &command).expect_err("id").has("malformed"));
    }
}

#[test]
fn a_drill_says_so_in_its_title() {
    let drill = Content { drill: true, ..text(Priority::Emergency) };
    assert_eq!(drill.shown_title(), "[DIỄN TẬP] Lịch cắt điện");
}

#[test]
fn content_reads_back_from_the_wire() {
    let content = Content { target_areas: vec!["10525".into()], drill: true, ..text(Priority::Priority) };
    assert_eq!(Content::from_wire(content.to_wire()), Some(content.clone()));
    assert_eq!(Content::from_wire(httt_wire::bulletin::Content { kind: 99, ..content.to_wire() }), None);
    assert!(content.to_wire().encoded_len() > 0);
    assert_eq!(content.communes_within(Areas::in_force_2025(), "31"), ["10525"]);
    assert_eq!(text(Priority::Ordinary).communes_within(Areas::in_force_2025(), "31").len(), 114);
}

fn step() -> impl Strategy<Value = (usize, Command)> {
    let reason = || "lý do".to_owned();
    let command = prop_oneof![
        Just(create(text(Priority::Ordinary))),
        Just(create(text(Priority::Emergency))),
        Just(Command::Edit { content: text(Priority::Priority) }),
        Just(Command::Edit { content: text(Priority::Emergency) }),
        Just(Command::Submit),
        Just(Command::Return { reason: reason() }),
        Just(Command::Reject { reason: reason() }),
        any::<bool>().prop_map(|step_up| Command::Approve { step_up }),
        Just(Command::Publish),
        Just(Command::Withdraw { reason: reason() }),
    ];
    (0..4_usize, command)
}

proptest! {
    /// Whatever people do in whatever order and role, nobody approves what went through their hands, every emergency
    /// had its code, versions rise by one, and the shared stream stays in one lane.
    #[test]
    fn no_order_of_commands_breaks_the_rules(steps in prop::collection::vec(step(), 0..60)) {
        let mut draft = Draft::default();
        let (mut hands, mut version, mut lanes) = (std::collections::BTreeSet::new(), 0, std::collections::BTreeSet::new());
        for (who, command) in steps {
            // Accounts change roles over the years.
            let account = ["an", "binh", "cuc", "dung"][who];
            for role in [Role::Author, Role::Approver] {
                let Ok(events) = give(&mut draft, account, role, &command) else { continue };
                for event in events {
                    match event {
                        DraftEvent::Created(_) | DraftEvent::Edited(_) | DraftEvent::Submitted(_) => {
                            hands.insert(account);
                        }
                        DraftEvent::Approved(approved) => {
                            prop_assert!(!hands.contains(account));
                            prop_assert!(approved.step_up || draft.content.priority != Priority::Emergency);
                        }
                        DraftEvent::BulletinPublished(lane, shared) => {
                            version += 1;
                            prop_assert_eq!(shared.version, version);
                            prop_assert!(!hands.contains(shared.approver.as_str()));
                            lanes.insert(lane as i32);
                        }
                        DraftEvent::BulletinWithdrawn(lane, _) => {
                            lanes.insert(lane as i32);
                        }
                        _ => {}
                    }
                }
            }
        }
        prop_assert!(lanes.len() <= 1);
    }
}
