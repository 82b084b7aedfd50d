//! Every route of the node, once: the server is built from this table and so is its description, so neither can know of one
//! that the other does not.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, delete, get, post, put};
use utoipa::openapi::HttpMethod::{self, Delete, Get, Post, Put};

use crate::api::{bulletins, clusters, commands, reports, schedules};
use crate::device::{files, log_in, orders, reports as device_reports, schedules as device_schedules};
use crate::openapi::{self, Shape, schema};
use crate::province::Province;

/// Largest body of a bulk registration.
const MAX_REGISTRATION_BYTES: usize = 2 << 20;

/// Who calls a route, and how it knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anybody.
    Anybody,
    /// A person's session.
    Person,
    /// A device that logs in.
    NewDevice,
    /// A device's token.
    Device,
}

/// One route.
pub(crate) struct Route {
    pub(crate) method: HttpMethod,
    pub(crate) path: &'static str,
    pub(crate) caller: Caller,
    /// In Vietnamese, then in English.
    pub(crate) summary: (&'static str, &'static str),
    /// Name and meaning of each query parameter.
    pub(crate) query: &'static [(&'static str, &'static str)],
    pub(crate) body: Shape,
    pub(crate) answer: Shape,
    /// None for those that every node has.
    pub(crate) handler: Option<fn() -> MethodRouter<Province>>,
}

const AREA_MEANING: &str = "code of the province or a commune; default the account's own area, 403 outside it";
const PAGE: &[(&str, &str)] =
    &[("area", AREA_MEANING), ("offset", "rows to skip"), ("limit", "rows to give, 1 to 1000, default 100")];
const CLUSTER_PAGE: &[(&str, &str)] = &[
    ("area", AREA_MEANING),
    ("status", "offline, idle, playing or paused"),
    ("offset", "rows to skip"),
    ("limit", "rows to give, 1 to 1000, default 100"),
];
const AREA: &[(&str, &str)] = &[("area", AREA_MEANING)];
const COMMUNE: &[(&str, &str)] = &[("commune", AREA_MEANING)];
const VERSION: &[(&str, &str)] = &[("version", "the version that was loaded, 0 for none; 409 if somebody was faster")];
const POLL: &[(&str, &str)] =
    &[("cho", "seconds to wait for a change, at most 30"), ("phien-ban", "PhienBan of the answer before; 0 at first")];

const IDENTITY: &str = r#""NguonID":"10525","TenNguon":"…","CumLoaID":"861234567890123","TenThietBi":"…","#;
const OK: Shape = Shape::Example(r#"{"TrangThaiGui":0,"MoTa":"Thành công","NoiDung":null}"#);

/// The table.
pub(crate) static ROUTES: &[Route] = &[
    person(Get, "/api/v1/bulletins", ("Danh sách bản tin gửi cho tỉnh", "Bulletins for this province, the latest first"))
        .query(PAGE)
        .answer(schema::<bulletins::BulletinPage>())
        .by(|| get(bulletins::list)),
    person(Get, "/api/v1/bulletins/{bulletin}", ("Một bản tin và tình hình ở từng xã", "One bulletin, and how far it came, by commune"))
        .query(AREA)
        .answer(schema::<bulletins::BulletinAnswer>())
        .by(|| get(bulletins::show)),
    person(Get, "/api/v1/playback/{bulletin}", ("Nhật ký phát của một bản tin", "What was played of a bulletin"))
        .query(AREA)
        .answer(schema::<bulletins::PlaybackAnswer>())
        .by(|| get(bulletins::playback)),
    person(Get, "/api/v1/schedules", ("Danh sách lịch phát", "Schedules, cancelled ones too"))
        .query(COMMUNE)
        .answer(Shape::List(&schema::<schedules::ScheduleAnswer>()))
        .by(|| get(schedules::list)),
    person(Post, "/api/v1/schedules", ("Lập hoặc thay lịch phát", "Sets or replaces a schedule"))
        .body(schema::<schedules::ScheduleInput>())
        .answer(schema::<schedules::ScheduleAnswer>())
        .by(|| post(schedules::set)),
    person(Get, "/api/v1/schedules/{schedule}", ("Một lịch phát", "One schedule"))
        .answer(schema::<schedules::ScheduleAnswer>())
        .by(|| get(schedules::show)),
    person(Delete, "/api/v1/schedules/{schedule}", ("Hủy lịch phát", "Cancels a schedule"))
        .body(schema::<schedules::CancelInput>())
        .answer(schema::<schedules::ScheduleAnswer>())
        .by(|| delete(schedules::cancel)),
    person(Get, "/api/v1/clusters", ("Danh sách cụm loa", "Clusters"))
        .query(CLUSTER_PAGE)
        .answer(schema::<clusters::ClusterPage>())
        .by(|| get(clusters::list)),
    person(Post, "/api/v1/clusters", ("Đăng ký cụm loa", "Registers clusters, all or none; their passwords are shown once"))
        .body(Shape::List(&schema::<clusters::ClusterInput>()))
        .answer(Shape::List(&schema::<clusters::RegisteredAnswer>()))
        .by(|| post(clusters::register).layer(DefaultBodyLimit::max(MAX_REGISTRATION_BYTES))),
    person(Get, "/api/v1/clusters/totals", ("Tổng hợp cụm loa theo địa bàn", "Clusters counted, by area"))
        .query(AREA)
        .answer(schema::<clusters::TotalsAnswer>())
        .by(|| get(clusters::totals)),
    person(Post, "/api/v1/clusters/commands", ("Điều khiển cụm loa", "Tells clusters what to do"))
        .body(schema::<commands::CommandInput>())
        .answer(schema::<commands::CommandAnswer>())
        .by(|| post(commands::send)),
    person(Post, "/api/v1/clusters/{imei}/credential", ("Cấp lại mật khẩu cho cụm loa", "A new password for a device; the old one ends"))
        .answer(schema::<clusters::RegisteredAnswer>())
        .by(|| post(clusters::renew_credential)),
    person(Get, "/api/v1/forms", ("Các biểu mẫu báo cáo", "Forms, in all their versions"))
        .answer(Shape::Example("[]"))
        .by(|| get(reports::forms)),
    person(Get, "/api/v1/reports/{form}/{period}", ("Tổng hợp báo cáo một kỳ", "Sums of a period, who filed, who is missing"))
        .query(AREA)
        .answer(schema::<reports::SheetAnswer>())
        .by(|| get(reports::sheet)),
    person(Post, "/api/v1/reports/{form}/{period}/submit", ("Gửi báo cáo tổng hợp lên trung ương", "Says that the province is complete"))
        .answer(schema::<reports::SubmittedAnswer>())
        .by(|| post(reports::submit)),
    person(Get, "/api/v1/reports/{form}/{period}/{area}", ("Báo cáo của một xã", "One commune's report"))
        .answer(schema::<reports::FiledAnswer>())
        .by(|| get(reports::show)),
    person(Put, "/api/v1/reports/{form}/{period}/{area}", ("Nộp báo cáo của một xã", "Files one commune's report: values by indicator"))
        .query(VERSION)
        .body(Shape::Example(r#"{"stations":1,"hours_on_air":"120,5","operating_cost":12500000}"#))
        .answer(schema::<reports::FiledAnswer>())
        .by(|| put(reports::file)),
    device(Post, "/thiet-bi/dang-nhap", ("Thiết bị đăng nhập", "A device logs in"))
        .body(Shape::Example(r#"{"Username":"861234567890123","Password":"…"}"#))
        .answer(Shape::Example(r#"{"TrangThaiGui":0,"MoTa":"Thành công","NoiDung":{"Token":"…"}}"#))
        .called_by(Caller::NewDevice)
        .by(|| post(log_in::log_in)),
    device(Post, "/thiet-bi/trang-thai", ("Trạng thái cụm loa", "Status, every minute"))
        .body(Shape::Identified(r#""AmLuong":"70","TrangThaiHoatDong":"2","TrangThaiKetNoi":"4G,-71dbm","ViDo":20.86,"KinhDo":106.68,"ThongTinThietBi":{"CongSuat":"50","NhietDo":"41","DungLuongSuDung":"12%"},"ThoiDiemBatDau":1763700000,"NoiDungPhat":"","PhienBanUngDung":"1.0""#))
        .answer(OK)
        .by(|| post(device_reports::status)),
    device(Post, "/thiet-bi/nhat-ky", ("Nhật ký phát", "One item that began to play"))
        .body(Shape::Identified(r#""BanTinID":"…","TieuDe":"…","ThoiLuong":"00:02:30","ThoiDiemBatDau":1763700000,"AmLuong":"70","CongSuat":"50""#))
        .answer(OK)
        .by(|| post(device_reports::playback)),
    device(Get, "/thiet-bi/lich-phat", ("Lịch phát của xã", "The schedules of the device's commune"))
        .answer(Shape::Example(r#"{"TrangThaiGui":0,"MoTa":"Thành công","NoiDung":[{"LichPhatID":"…","TenLichPhat":"…","DanhSachBanTin":[{"BanTinID":"…","NoiDung":"/thiet-bi/media/…","DanhSachNgayPhat":[{"NgayPhat":"2026-09-02","ThoiDiemPhat":[{"ThoiGianBatDau":"05:30:00","ThoiGianKetThuc":"06:00:00"}]}]}]}]}"#))
        .by(|| get(device_schedules::list)),
    device(Post, "/thiet-bi/lich-phat/tra-loi", ("Thiết bị trả lời lịch phát", "A device accepted (1) or cancelled (0) a schedule"))
        .body(Shape::Identified(r#""LichPhatID":"…","TrangThai":"1""#))
        .answer(OK)
        .by(|| post(device_schedules::answer)),
    device(Get, "/thiet-bi/lenh", ("Chờ lệnh và bản tin khẩn cấp", "Waits for commands and emergencies"))
        .query(POLL)
        .answer(Shape::Example(r#"{"TrangThaiGui":0,"MoTa":"Thành công","NoiDung":{"PhienBan":1763700000000,"PhienBanLichPhat":3,"DanhSachLenh":[{"NguonID":"31","TenNguon":"…","DanhSachDiaBanNhan":[{"DichID":"10525","TenDich":"…"}],"DanhSachThietBi":{"CumLoaID":["861234567890123"]},"DieuKhienThietBi":{"MaLenh":"0","ThamSo":"70"}}],"BanTinKhanCap":[],"BanTinThuHoi":[]}}"#))
        .by(|| get(orders::wait)),
    device(Get, "/thiet-bi/media/{sha256}", ("Tải tệp của bản tin", "A bulletin's file, in ranges; no envelope"))
        .answer(Shape::File)
        .by(|| get(files::fetch)),
    person(Post, "/api/v1/session", ("Đăng nhập", "Logs in"))
        .body(Shape::Example(r#"{"username":"…","password":"…"}"#))
        .answer(Shape::Example(r#"{"token":"…","ends_at_ms":0,"account":"…","roles":[],"area":"31"}"#))
        .called_by(Caller::Anybody),
    person(Delete, "/api/v1/session", ("Đăng xuất", "Logs out")),
    person(Get, "/api/v1/me", ("Tài khoản đang dùng", "The account behind the session"))
        .answer(Shape::Example(r#"{"account":"…","roles":[],"area":"31"}"#)),
    person(Get, "/api/v1/log", ("Sổ ghi sự kiện của nút", "The node's log: length, root, feeds")).answer(Shape::Example("{}")),
    person(Get, "/api/v1/link", ("Đường truyền lên NDXP", "The way up: connected, behind, stopped"))
        .answer(Shape::Example(r#"{"connected":true,"behind":[],"stopped":[]}"#)),
    person(Get, "/api/v1/wire", ("Dung lượng đã truyền", "Bytes on the wire by peer and lane, since the node started"))
        .answer(Shape::Example(r#"[{"peer":"https://ndxp.example.vn:7443","topic":"status","sent":{"messages":1,"wire_bytes":240,"entries":1,"content_bytes":320},"received":{"messages":1,"wire_bytes":160,"entries":0,"content_bytes":0}}]"#)),
    person(Get, "/api/v1/members", ("Các thành viên", "Members of the exchange")).answer(Shape::Example("[]")),
    person(Get, "/api/v1/storage", ("Kho tệp: dung lượng và giới hạn", "Media kept, their limits, what was dropped or lost"))
        .answer(Shape::Example(r#"{"store":"folder","files":0,"file_bytes":0,"parts":0,"part_bytes":0,"max_file_bytes":268435456,"max_store_bytes":68719476736,"max_member_parts":32,"max_member_part_bytes":2147483648,"dropped":0,"lost":0,"members":[]}"#)),
    person(Post, "/api/v1/models/compare", ("Đối chiếu dữ liệu với sổ ghi", "Compares the read models with their rebuild"))
        .answer(Shape::Example(COMPARED)),
    person(Post, "/api/v1/models/rebuild", ("Dựng lại dữ liệu từ sổ ghi", "Rebuilds the read models, compares, and takes the rebuilt ones"))
        .answer(Shape::Example(COMPARED)),
    person(Get, "/api/v1/models", ("Các mô hình dữ liệu", "The read models, and how far a comparison or rebuild is"))
        .answer(Shape::Example(r#"{"position":0,"models":[{"model":"bulletins","version":1,"problem":""}],"progress":null}"#)),
    person(Get, "/api/v1/witness", ("Xác nhận sổ ghi giữa các nút", "Who cosigned this log's checkpoints, and what this node cosigned"))
        .answer(Shape::Example(r#"{"log_key":"…","cosigner_key":"…","cosigned_size":1024,"cosigners":["httt/NDXP"],"alarm":null,"watched":[]}"#)),
    person(Post, "/api/v1/witness/forget", ("Bắt đầu lại với sổ ghi của một nút khác", "Forgets what was cosigned of a log that begins anew; recorded with the reason"))
        .body(Shape::Example(r#"{"origin":"httt/NDXP","reason":"…"}"#)),
    person(Post, "/api/v1/feeds/import", ("Nhập tệp dữ liệu mang bằng tay", "Takes a file of feeds brought by hand; tells by feed what became of it"))
        .body(Shape::File)
        .answer(Shape::Example(IMPORTED)),
    person(Post, "/api/v1/feeds/export", ("Xuất tệp dữ liệu mang bằng tay", "Makes a file of feeds for a member; the body may be an earlier file, whose entries are left out"))
        .query(EXPORT)
        .body(Shape::File)
        .answer(Shape::File),
    person(Get, openapi::PATH, ("Mô tả giao diện này", "This description"))
        .answer(Shape::Example("{}"))
        .called_by(Caller::Anybody)
        .by(|| get(openapi::show)),
];

const COMPARED: &str =
    r#"[{"model":"bulletins","position":0,"live":"…","rebuilt":"…","equal":true,"verdict":"equal","problem":""}]"#;

const IMPORTED: &str = r#"{"ok":true,"maker":"NDXP","reader":"H24","made_at_ms":0,"for_somebody_else":false,"more":false,"feeds":[{"feed":"TW→*/content","first":1,"last":5,"taken":5,"held":0,"head":5,"outcome":"taken","message":"…","message_en":"…"}],"media":[{"sha256":"…","size":0,"held":0,"outcome":"complete","message":"…","message_en":"…"}],"broken":null}"#;

const EXPORT: &[(&str, &str)] = &[
    ("for", "agency code of the reader"),
    ("feed", "only these feeds, separated by commas"),
    ("lane", "only these lanes, separated by commas"),
    ("after", "begin after this sequence; with one feed"),
    ("media", "whether media files go along; default true"),
    ("max_bytes", "the file must not be larger"),
];

const fn person(method: HttpMethod, path: &'static str, summary: (&'static str, &'static str)) -> Route {
    Route {
        method,
        path,
        caller: Caller::Person,
        summary,
        query: &[],
        body: Shape::None,
        answer: Shape::None,
        handler: None,
    }
}

const fn device(method: HttpMethod, path: &'static str, summary: (&'static str, &'static str)) -> Route {
    person(method, path, summary).called_by(Caller::Device)
}

impl Route {
    const fn called_by(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn body(mut self, body: Shape) -> Self {
        self.body = body;
        self
    }

    const fn answer(mut self, answer: Shape) -> Self {
        self.answer = answer;
        self
    }

    const fn by(mut self, handler: fn() -> MethodRouter<Province>) -> Self {
        self.handler = Some(handler);
        self
    }
}

/// A device's message around its own fields.
pub(crate) fn identified(fields: &str) -> String {
    format!("{{{IDENTITY}{fields}}}")
}

/// The routes that need a person's session, and those that do not.
pub(crate) fn routers(province: &Province) -> (Router, Router) {
    let build = |of: fn(Caller) -> bool| {
        let own = ROUTES.iter().filter(|route| of(route.caller));
        let add = |router: Router<Province>, route: &Route| match route.handler {
            Some(handler) => router.route(route.path, handler()),
            None => router,
        };
        own.fold(Router::new(), add).with_state(province.clone())
    };
    (build(|caller| caller == Caller::Person), build(|caller| caller != Caller::Person))
}
