use std::collections::BTreeMap;

use httt_domain::Lane;
use httt_domain::accounts::{Actor, Role};
use httt_domain::area::Areas;
use httt_domain::bulletin::Priority;
use httt_domain::schedule::{
    Command, Context, KnownBulletin, NewSchedule, PlayDay, Schedule, ScheduleEvent, ScheduledBulletin, TimeSpan,
    check_decline,
};
use time::macros::date;

fn known(priority: Priority) -> KnownBulletin {
    KnownBulletin {
        title: "Tiêm chủng".into(),
        publisher: Some("TW".into()),
        priority,
        withdrawn: false,
        valid_until_ms: 0,
        offered: true,
    }
}

fn bulletins() -> BTreeMap<String, KnownBulletin> {
    [
        ("tw", known(Priority::Ordinary)),
        ("own", KnownBulletin { publisher: None, ..known(Priority::Priority) }),
        ("urgent", known(Priority::Emergency)),
        ("back", KnownBulletin { withdrawn: true, ..known(Priority::Ordinary) }),
        ("else", KnownBulletin { offered: false, ..known(Priority::Ordinary) }),
        ("old", KnownBulletin { valid_until_ms: 1, ..known(Priority::Ordinary) }),
    ]
    .into_iter()
    .map(|(id, known)| (id.to_owned(), known))
    .collect()
}

fn context<'a>(bulletins: &'a BTreeMap<String, KnownBulletin>, role: Role) -> Context<'a> {
    let actor = Actor { account: "xa", role, area: "10525" };
    let areas = Areas::in_force_2025();
    Context { actor, areas, home: "31", today: date!(2026 - 09 - 01), now_ms: 2, bulletins }
}

fn item(bulletin: &str) -> ScheduledBulletin {
    let times = vec![TimeSpan { starts: "05:30:00".into(), ends: "06:00:00".into() }];
    ScheduledBulletin { bulletin: bulletin.into(), days: vec![PlayDay { date: "2026-09-02".into(), times }] }
}

pub(crate) fn schedule() -> NewSchedule {
    NewSchedule {
        schedule: "s1".into(),
        name: "Sáng".into(),
        commune: "10525".into(),
        bulletins: vec![item("tw"), item("own")],
    }
}

fn decide(state: &Schedule, command: &Command) -> Result<Vec<ScheduleEvent>, httt_domain::Refusals> {
    state.decide(command, &context(&bulletins(), Role::CommuneOfficer))
}

#[test]
fn a_schedule_is_set_and_its_publishers_hear_of_it_once() {
    let mut state = Schedule::default();
    let events = decide(&state, &Command::Set(schedule())).expect("set");
    let [ScheduleEvent::Set(_), ScheduleEvent::Delivery { publisher, event }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((publisher.as_str(), event.bulletin.as_str(), event.commune.as_str()), ("TW", "tw", "10525"));
    let (local, told) = (events[0].to_domain(), events[1].to_domain());
    assert_eq!((local.lane, local.stream.as_str(), local.toward), (Lane::Local, "schedule/s1", None));
    assert_eq!((told.lane, told.stream.as_str(), told.toward.as_deref()), (Lane::Report, "delivery/tw", Some("TW")));
    assert_eq!(ScheduleEvent::decode(&local.kind, &local.data).as_ref(), Some(&events[0]));
    state.evolve(&events[0]);
    let again = decide(&state, &Command::Set(schedule())).expect("replaced");
    assert_eq!(again.len(), 1);
}

#[test]
fn devices_answer_and_communes_cancel() {
    let mut state = Schedule::default();
    let answer = Command::Answer { cluster: 7, accepted: true };
    assert!(decide(&state, &answer).expect_err("nothing set").has("not-found"));
    for command in [Command::Set(schedule()), answer.clone()] {
        let events = decide(&state, &command).expect("decided");
        state.evolve(&events[0]);
    }
    assert_eq!(state.answers.get(&7), Some(&true));
    assert_eq!(decide(&state, &answer).expect("again"), []);
    assert!(decide(&state, &Command::Cancel { reason: String::new() }).expect_err("why").has("required"));
    let events = decide(&state, &Command::Cancel { reason: "mất điện".into() }).expect("cancelled");
    state.evolve(&events[0]);
    assert!(state.cancelled && state.answers.is_empty());
    assert!(decide(&state, &Command::Set(schedule())).expect_err("over").has("schedule-cancelled"));
}

#[test]
fn each_mistake_in_a_schedule_names_its_field() {
    let change = |change: &dyn Fn(&mut NewSchedule)| {
        let mut new = schedule();
        change(&mut new);
        new
    };
    let time = |index: usize, starts: &str, ends: &str| {
        let span = TimeSpan { starts: starts.into(), ends: ends.into() };
        change(&|new: &mut NewSchedule| new.bulletins[index].days[0].times[0] = span.clone())
    };
    let day = |text: &str| change(&|new: &mut NewSchedule| new.bulletins[0].days[0].date = text.into());
    let plays = |bulletin: &str| change(&|new: &mut NewSchedule| new.bulletins[1].bulletin = bulletin.into());
    for (new, code, field, words) in [
        (change(&|new| new.bulletins.clear()), "required", "bulletins", "“Danh sách bản tin”"),
        (change(&|new| new.name.clear()), "required", "name", "“Tên lịch phát”"),
        (change(&|new| new.schedule = "a b".into()), "malformed", "schedule", "“Mã lịch phát”"),
        (change(&|new| new.commune = "22015".into()), "area-outside", "commune", "Phường Tuy Hòa"),
        (change(&|new| new.commune = "10507".into()), "area-outside", "commune", "Phường Hải Dương"),
        (change(&|new| new.bulletins[0].days.clear()), "required", "bulletins[0].days", "“Ngày phát”"),
        (
            change(&|new| new.bulletins[0].days[0].times.clear()),
            "required",
            "bulletins[0].days[0].times",
            "“Thời điểm phát”",
        ),
        (plays("unknown"), "not-found", "bulletins[1].bulletin", "“unknown”"),
        (plays("urgent"), "emergency-not-scheduled", "bulletins[1].bulletin", "phát ngay"),
        (plays("back"), "withdrawn", "bulletins[1].bulletin", "thu hồi"),
        (plays("else"), "not-offered", "bulletins[1].bulletin", "không được gửi cho xã này"),
        (plays("old"), "passed", "bulletins[1].bulletin", "đã qua"),
        (plays("tw"), "duplicate", "bulletins[1].bulletin", "bị trùng"),
        (day("02/09/2026"), "malformed", "bulletins[0].days[0].date", "năm-tháng-ngày"),
        (day("2026-02-30"), "malformed", "bulletins[0].days[0].date", "2026-02-30"),
        (day("2026-08-31"), "date-out-of-range", "bulletins[0].days[0].date", "2026-08-31"),
        (day("2027-09-03"), "date-out-of-range", "bulletins[0].days[0].date", "2027-09-02"),
        (time(1, "25:00:00", "26:00:00"), "malformed", "bulletins[1].days[0].times[0].starts", "giờ:phút:giây"),
        (time(1, "06:00:00", "06:00:00"), "times-reversed", "bulletins[1].days[0].times[0].ends", "sau giờ bắt đầu"),
    ] {
        let refusals = decide(&Schedule::default(), &Command::Set(new)).expect_err(code);
        assert_eq!((refusals.0[0].code(), refusals.0[0].field()), (code, field), "{}", refusals.vi());
        assert!(refusals.0[0].vi().contains(words), "{}", refusals.vi());
    }
}

#[test]
fn a_schedule_stays_in_its_commune_and_role() {
    let known = bulletins();
    let auditor = context(&known, Role::Auditor);
    assert!(Schedule::default().decide(&Command::Set(schedule()), &auditor).expect_err("role").has("not-allowed"));
    let mut state = Schedule::default();
    state.evolve(&decide(&state, &Command::Set(schedule())).expect("set")[0]);
    let other = Actor { account: "khac", role: Role::CommuneOfficer, area: "10507" };
    let context = Context { actor: other, ..context(&known, Role::CommuneOfficer) };
    let refusals = state.decide(&Command::Cancel { reason: "x".into() }, &context).expect_err("area");
    assert!(refusals.has("area-outside"));
}

#[test]
fn no_commune_refuses_an_emergency() {
    let refusal = check_decline(&known(Priority::Emergency)).expect_err("emergency");
    assert_eq!(refusal.code(), "emergency-not-refused");
    assert!(refusal.vi().contains("không được từ chối"), "{}", refusal.vi());
    assert!(check_decline(&known(Priority::Priority)).is_ok());
}
