use httt_domain::bulletin::{Content, Detail, Kind, Media, Priority, Subject};
use httt_domain::cluster::Activity;
use httt_domain::device::{
    Answer, Command, CommandCodes, CommandMessage, Control, Degrees, DeviceBulletin, DeviceInfo, DevicePlayDay,
    DeviceSchedule, DeviceTimeSpan, Identity, Login, PlaybackLog, ScheduleAnswer, ScheduleItem, ScheduleV1,
    StatusReport, StopMode, read, vietnam, vietnam_date,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("json")
}

fn status() -> Value {
    json!({
        "NguonID": "10525", "TenNguon": "Phường Hải Dương", "DichID": "31", "TenDich": "Hải Phòng",
        "CumLoaID": "356938035643809", "TenThietBi": "Cụm 1", "TenLoaiThietBi": "4G", "MaNhaCungCap": "ABC",
        "TenNhaCungCap": "Công ty ABC", "AmLuong": "80", "TrangThaiHoatDong": "0", "TrangThaiKetNoi": "4G,-10dbm",
        "ViDo": 20.938, "KinhDo": 106.316,
        "ThongTinThietBi": {"CongSuat": "50W", "NhietDo": "40", "DungLuongSuDung": "1GB", "DuLieuKhac": ""},
        "ThoiDiemBatDau": 1_790_000_000, "NoiDungPhat": "https://example.org/a.mp3", "PhienBanUngDung": "2.1",
    })
}

#[test]
fn a_status_of_version_2_reads_and_writes_the_same() {
    let report: StatusReport = read(&bytes(&status())).expect("reads");
    assert_eq!((report.volume, report.activity, report.latitude), (80, Activity::Playing, Some(Degrees(20_938_000))));
    assert_eq!(serde_json::to_value(&report).expect("json"), status());
}

#[test]
fn devices_of_all_vendors_are_understood() {
    let mut other = status();
    let map = other.as_object_mut().expect("object");
    for (name, old) in [("NguonID", "NguonId"), ("DichID", "DichId"), ("CumLoaID", "CumLoaId")] {
        let value = map.remove(name).expect("there");
        map.insert(old.into(), value);
    }
    map.insert("CumLoaId".into(), json!(356_938_035_643_809_i64));
    map.insert("AmLuong".into(), json!(80.4));
    map.insert("TrangThaiHoatDong".into(), json!(0));
    map.insert("ViDo".into(), json!("20.938"));
    map.insert("KinhDo".into(), json!("106,316"));
    map.insert("ThoiDiemBatDau".into(), json!("1790000000"));
    map.insert("RSSI".into(), json!(-70));
    let report: StatusReport = read(&bytes(&other)).expect("reads");
    assert_eq!(serde_json::to_value(&report).expect("json"), status());
    map_info(&mut other, json!({"DuLieuKhac": {"RSSI": -70}, "NhietDo": 40}));
    let report: StatusReport = read(&bytes(&other)).expect("reads");
    assert_eq!((report.info.other.as_str(), report.info.temperature.as_str()), ("{\"RSSI\":-70}", "40"));
}

fn map_info(status: &mut Value, info: Value) {
    status["ThongTinThietBi"] = info;
}

#[test]
fn what_is_wrong_is_named() {
    for (name, value, code, words) in [
        ("CumLoaID", json!("123"), "malformed", "“CumLoaID”"),
        ("CumLoaID", json!(null), "required", "“CumLoaID”"),
        ("AmLuong", json!("101"), "out-of-range", "“AmLuong”"),
        ("AmLuong", json!("to"), "not-a-number", "“to”"),
        ("TrangThaiHoatDong", json!("3"), "out-of-range", "“TrangThaiHoatDong”"),
        ("TrangThaiHoatDong", json!(""), "required", "“TrangThaiHoatDong”"),
        ("ViDo", json!("bắc"), "not-a-number", "“ViDo”"),
        ("KinhDo", json!(181), "out-of-range", "“KinhDo”"),
        ("NoiDungPhat", json!("x".repeat(2_001)), "too-long", "2.001 ký tự"),
        ("ThongTinThietBi", json!([]), "malformed", "“ThongTinThietBi”"),
        ("TenThietBi", json!({}), "malformed", "“TenThietBi”"),
    ] {
        let mut wrong = status();
        wrong[name] = value;
        let refusal = read::<StatusReport>(&bytes(&wrong)).expect_err(name);
        assert_eq!((refusal.field(), refusal.code()), (name, code));
        assert!(refusal.vi().contains(words), "{}", refusal.vi());
    }
    let refusal = read::<StatusReport>(b"\xff{").expect_err("no json");
    assert_eq!(Answer::<()>::refused(&refusal).state, 1);
    assert_eq!(read::<StatusReport>(&vec![b' '; 65 * 1024]).expect_err("large").code(), "event-too-large");
}

#[test]
fn the_envelope_reads_and_writes() {
    let answer = Answer::with(json!({"Token": "t"}));
    let text = serde_json::to_value(&answer).expect("json");
    assert_eq!(text, json!({"TrangThaiGui": 0, "MoTa": "Thành công", "NoiDung": {"Token": "t"}}));
    assert_eq!(read::<Answer<Value>>(&bytes(&text)).expect("reads"), answer);
    let error: Answer<Value> = read(br#"{"TrangThaiGui":"1","MoTa":"sai"}"#).expect("reads");
    assert!(!error.is_ok() && error.content.is_none());
    assert!(read::<Answer<Value>>(b"{}").is_err());
}

#[test]
fn a_login_keeps_its_password_out_of_sight() {
    let login: Login = read(br#"{"Username":"356938035643809","Password":"mat khau"}"#).expect("reads");
    assert!(!format!("{login:?}").contains("mat khau"));
    assert_eq!(read::<Login>(br#"{"Username":"a"}"#).expect_err("none").field(), "Password");
}

pub(crate) fn audio() -> Content {
    Content {
        title: "Phòng cháy".into(),
        kind: Kind::Audio,
        priority: Priority::Emergency,
        subject: Subject::Unexpected,
        source: "Công an thành phố".into(),
        pen_name: "PV".into(),
        produced_at_ms: 1_790_000_000_000,
        drill: true,
        media: Some(Media {
            sha256: "AB".repeat(32),
            size: 10,
            content_type: "audio/mpeg".into(),
            name: "a.mp3".into(),
            duration_ms: 930_001,
        }),
        details: vec![
            Detail { name: "Giọng".into(), value: "nữ".into() },
            Detail { name: "sha256".into(), value: "giả".into() },
        ],
        ..Content::default()
    }
}

#[test]
fn a_bulletin_goes_to_a_device_with_its_digest() {
    let bulletin = DeviceBulletin::of("b1", &audio(), "https://node/media/1");
    assert_eq!(
        serde_json::to_value(&bulletin).expect("json"),
        json!({
            "BanTinID": "b1", "TieuDe": "[DIỄN TẬP] Phòng cháy", "NoiDungTomTat": "", "NoiDung": "https://node/media/1",
            "LoaiBanTin": 3, "LoaiLinhVuc": 2, "MucDoUuTien": 1, "NguonTin": "Công an thành phố",
            "TacGia": {"TenDayDu": "", "ButDanh": "PV", "Email": ""}, "ThoiGianSanXuat": 1_790_000_000,
            "ThoiLuong": "00:15:31", "TiepAm": false, "NguonTiepAm": "",
            "ThongTinChiTietBanTin": [
                {"Ten": "SHA256", "GiaTri": "ab".repeat(32)}, {"Ten": "DienTap", "GiaTri": "1"},
                {"Ten": "Giọng", "GiaTri": "nữ"},
            ],
        })
    );
    assert_eq!(bulletin.sha256(), Some("ab".repeat(32).as_str()));
    let text = Content { kind: Kind::Text, media: None, body: "Chữ".into(), ..audio() };
    assert_eq!(DeviceBulletin::of("b1", &text, "").content, "Chữ");
}

#[test]
fn a_playback_log_names_what_and_when() {
    let mut log = status();
    log["BanTinID"] = json!("b1");
    log["ThoiLuong"] = json!("01:00:00");
    log["MucDoUuTien"] = json!("1");
    let read_log: PlaybackLog = read(&bytes(&log)).expect("reads");
    assert_eq!((read_log.bulletin.duration_s, read_log.bulletin.priority), (3_600, Priority::Emergency));
    log["ThoiLuong"] = json!("01:60:00");
    assert_eq!(read::<PlaybackLog>(&bytes(&log)).expect_err("minutes").field(), "ThoiLuong");
}

#[test]
fn schedules_read_and_write() {
    let times = vec![DeviceTimeSpan { starts: "05:30:00".into(), ends: "06:00:00".into() }];
    let days = vec![DevicePlayDay { date: "2026-09-02".into(), times }];
    let items = vec![ScheduleItem { bulletin: DeviceBulletin::of("b1", &audio(), "u"), days }];
    let schedule = DeviceSchedule { schedule: "s1".into(), name: "Sáng".into(), items };
    let mut value = serde_json::to_value(&schedule).expect("json");
    assert_eq!(read::<DeviceSchedule>(&bytes(&value)).expect("reads"), schedule);
    value["DanhSachBanTin"][0]["DanhSachNgayPhat"][0]["NgayPhat"] = json!("02/09/2026");
    assert_eq!(read::<DeviceSchedule>(&bytes(&value)).expect("reads"), schedule);
    value["DanhSachBanTin"][0]["DanhSachNgayPhat"][0]["ThoiDiemPhat"][0]["ThoiGianKetThuc"] = json!("6h");
    let refusal = read::<DeviceSchedule>(&bytes(&value)).expect_err("time");
    assert_eq!(refusal.field(), "DanhSachBanTin[0].DanhSachNgayPhat[0].ThoiDiemPhat[0].ThoiGianKetThuc");
    let answer: ScheduleAnswer =
        read(br#"{"CumLoaId":"356938035643809","LichPhatId":"s1","TrangThaiLichPhat":0}"#).expect("reads");
    assert!(!answer.accepted && answer.schedule == "s1");
}

#[test]
fn schedules_of_version_1_are_understood() {
    let old = json!({
        "NgayBatDau": "01/09/2026", "NgayKetThuc": "2026-09-03", "CheDoPhat": "1",
        "LichPhat": {"ThoiDiemBatDau": ["05:30:00"], "ThoiDiemKetThuc": ["06:00:00"], "KieuLich": 0, "DanhSachNgayPhat": []},
    });
    let schedule: ScheduleV1 = read(&bytes(&old)).expect("reads");
    let days = schedule.days();
    assert_eq!((days.len(), days[2].date.as_str(), days[0].times[0].starts.as_str()), (3, "2026-09-03", "05:30:00"));
    let mut listed = old.clone();
    listed["LichPhat"]["DanhSachNgayPhat"] = json!(["2026-09-02"]);
    assert_eq!(read::<ScheduleV1>(&bytes(&listed)).expect("reads").days().len(), 1);
    let mut wrong = old;
    wrong["LichPhat"]["ThoiDiemKetThuc"] = json!([]);
    assert_eq!(read::<ScheduleV1>(&bytes(&wrong)).expect_err("pairs").field(), "LichPhat.ThoiDiemKetThuc");
}

#[test]
fn commands_have_the_codes_of_the_configuration() {
    let codes = CommandCodes { restart: "9".into(), ..CommandCodes::default() };
    for command in [
        Command::Volume(80),
        Command::Stop(StopMode::All),
        Command::Stop(StopMode::Skip),
        Command::Stop(StopMode::Pause),
        Command::Stop(StopMode::Resume),
        Command::Restart,
        Command::PlayEmergency("b1".into()),
    ] {
        let control = codes.encode(&command).expect("encodes");
        assert_eq!(codes.decode(&control), Some(command));
    }
    assert_eq!(
        codes.encode(&Command::Volume(80)).expect("encodes"),
        Control { code: "0".into(), parameter: "80".into() }
    );
    assert_eq!(codes.encode(&Command::Volume(101)).expect_err("loud").code(), "out-of-range");
    assert_eq!(codes.decode(&Control { code: "rm -rf".into(), parameter: String::new() }), None);
    assert!(codes.check().is_ok());
    assert!(CommandCodes { stop: "0".into(), ..codes.clone() }.check().is_err());
    assert!(CommandCodes { stop: String::new(), ..codes }.check().is_err());
    let from: CommandCodes = serde_json::from_value(json!({"restart": "7"})).expect("defaults");
    assert_eq!((from.volume.as_str(), from.restart.as_str()), ("0", "7"));
}

#[test]
fn a_command_reads_and_writes() {
    let value = json!({
        "NguonID": "31", "TenNguon": "Hải Phòng", "DanhSachDiaBanNhan": [{"DichID": "10525", "TenDich": "Phường Hải Dương"}],
        "DanhSachThietBi": {"CumLoaID": ["356938035643809"]}, "DieuKhienThietBi": {"MaLenh": "0", "ThamSo": "80"},
    });
    let message: CommandMessage = read(&bytes(&value)).expect("reads");
    assert_eq!(serde_json::to_value(&message).expect("json"), value);
    assert_eq!(read::<CommandMessage>(b"{}").expect_err("none").field(), "DieuKhienThietBi");
}

#[test]
fn devices_live_in_vietnamese_time() {
    assert_eq!(vietnam_date(1_788_282_000_000).to_string(), "2026-09-02");
    assert_eq!(vietnam_date(1_788_281_999_999).to_string(), "2026-09-01");
    assert_eq!(vietnam(i64::MAX).year(), 1970);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("356938035643809")),
        Just(json!("05:30:00")),
        Just(json!("2026-09-02")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let names = prop::sample::select(vec![
            "CumLoaId",
            "CumLoaID",
            "AmLuong",
            "TrangThaiHoatDong",
            "ViDo",
            "ThongTinThietBi",
            "BanTinID",
            "ThoiLuong",
            "DanhSachBanTin",
            "DanhSachNgayPhat",
            "NgayPhat",
            "ThoiDiemPhat",
            "LichPhatID",
            "LichPhat",
            "NgayBatDau",
            "NgayKetThuc",
            "ThoiDiemBatDau",
            "ThoiDiemKetThuc",
            "DieuKhienThietBi",
            "MaLenh",
            "TacGia",
            "TrangThaiGui",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..10)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_message_panics(value in any_json(), noise in prop::collection::vec(any::<u8>(), 0..60)) {
        for bytes in [bytes(&value), noise] {
            let _ = read::<StatusReport>(&bytes);
            let _ = read::<PlaybackLog>(&bytes);
            let _ = read::<DeviceSchedule>(&bytes);
            let _ = read::<ScheduleAnswer>(&bytes);
            let _ = read::<CommandMessage>(&bytes);
            let _ = read::<Answer<Value>>(&bytes);
            if let Ok(schedule) = read::<ScheduleV1>(&bytes) {
                prop_assert!(schedule.days().len() <= 1_000);
            }
        }
    }

    #[test]
    fn what_is_written_reads_back(
        imei in "[0-9]{15}", name in "[a-zA-Zạ-ỹ]{0,20}", volume in 0_u8..=100, activity in 0_usize..3,
        latitude in prop::option::of(-90_000_000_i32..=90_000_000), started in prop::option::of(0_i64..4_000_000_000),
    ) {
        let report = StatusReport {
            identity: Identity { imei, device_name: name.clone(), ..Identity::default() },
            volume,
            activity: [Activity::Playing, Activity::Paused, Activity::Idle][activity],
            connection: name.clone(),
            latitude: latitude.map(Degrees),
            longitude: latitude.map(Degrees),
            info: DeviceInfo { other: name, ..DeviceInfo::default() },
            started_at_s: started,
            now_playing: String::new(),
            app_version: "1".into(),
        };
        let text = serde_json::to_vec(&report).expect("json");
        prop_assert_eq!(read::<StatusReport>(&text).expect("reads"), report);
    }
}
