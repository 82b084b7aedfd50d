//! Who may do what. The one place that says so.

use serde::{Deserialize, Serialize};

use crate::area::Areas;
use crate::refusal::Refusal;

/// What an account is for. Bound to an area code; `""` is the nation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Biên tập: writes bulletins.
    Author,
    /// Duyệt: approves, publishes and withdraws.
    Approver,
    /// Quản trị: accounts, clusters, the node.
    Operator,
    /// Cán bộ xã: a commune's schedule and reports.
    CommuneOfficer,
    /// Kiểm tra: reads everything, changes nothing.
    Auditor,
    /// Cán bộ tỉnh: summaries, clusters, schedules on behalf of communes.
    ProvinceOfficer,
    /// Quản trị thành viên: who takes part in the exchange, with which keys and rights.
    Administrator,
}

/// Something an account may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Create, edit and submit drafts.
    WriteBulletin,
    /// Approve, return and reject what was submitted.
    ReviewBulletin,
    /// Publish what was approved.
    PublishBulletin,
    /// Withdraw what was published.
    WithdrawBulletin,
    /// Set and cancel a commune's schedule.
    SetSchedule,
    /// Send a command to clusters.
    CommandDevices,
    /// Register clusters and give them credentials.
    RegisterClusters,
    /// File a commune's report.
    FileReport,
    /// Submit a province's summary.
    SubmitSummary,
    /// Create, change and lock accounts.
    ManageAccounts,
    /// Bring feeds in and out by hand.
    CarryFeeds,
    /// Read the log of who did what.
    ReadAudit,
    /// Enrol, suspend and resume members of the exchange; change their keys, certificates and rights.
    ManageMembers,
    /// See bulletins, schedules, clusters, reports.
    Read,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] = [
        Self::Author,
        Self::Approver,
        Self::Operator,
        Self::CommuneOfficer,
        Self::Auditor,
        Self::ProvinceOfficer,
        Self::Administrator,
    ];

    /// Its Vietnamese name.
    pub fn vi(self) -> &'static str {
        match self {
            Self::Author => "biên tập",
            Self::Approver => "duyệt",
            Self::Operator => "quản trị",
            Self::CommuneOfficer => "cán bộ xã",
            Self::Auditor => "kiểm tra",
            Self::ProvinceOfficer => "cán bộ tỉnh",
            Self::Administrator => "quản trị thành viên",
        }
    }

    /// Its English name.
    pub fn en(self) -> &'static str {
        match self {
            Self::Author => "author",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::CommuneOfficer => "commune officer",
            Self::Auditor => "auditor",
            Self::ProvinceOfficer => "province officer",
            Self::Administrator => "administrator of members",
        }
    }
}

impl Action {
    /// As in "không được …".
    pub fn vi(self) -> &'static str {
        match self {
            Self::WriteBulletin => "soạn và trình bản tin",
            Self::ReviewBulletin => "duyệt bản tin",
            Self::PublishBulletin => "phát hành bản tin",
            Self::WithdrawBulletin => "thu hồi bản tin",
            Self::SetSchedule => "lập lịch phát",
            Self::CommandDevices => "điều khiển cụm loa",
            Self::RegisterClusters => "đăng ký cụm loa",
            Self::FileReport => "nộp báo cáo",
            Self::SubmitSummary => "gửi báo cáo tổng hợp",
            Self::ManageAccounts => "quản lý tài khoản",
            Self::CarryFeeds => "xuất, nhập dữ liệu bằng tệp",
            Self::ReadAudit => "xem nhật ký hệ thống",
            Self::ManageMembers => "quản lý thành viên của sàn",
            Self::Read => "xem dữ liệu",
        }
    }

    /// As in "may not …".
    pub fn en(self) -> &'static str {
        match self {
            Self::WriteBulletin => "write and submit bulletins",
            Self::ReviewBulletin => "review bulletins",
            Self::PublishBulletin => "publish bulletins",
            Self::WithdrawBulletin => "withdraw bulletins",
            Self::SetSchedule => "set schedules",
            Self::CommandDevices => "command clusters",
            Self::RegisterClusters => "register clusters",
            Self::FileReport => "file reports",
            Self::SubmitSummary => "submit summaries",
            Self::ManageAccounts => "manage accounts",
            Self::CarryFeeds => "bring feeds in or out by hand",
            Self::ReadAudit => "read the audit log",
            Self::ManageMembers => "manage members of the exchange",
            Self::Read => "read data",
        }
    }
}

/// Whether a role allows an action at all; the area is looked at beside it, see [`Actor::covers`].
pub fn may(role: Role, action: Action) -> bool {
    use Action::{
        CarryFeeds, CommandDevices, FileReport, ManageAccounts, ManageMembers, PublishBulletin, Read, ReadAudit,
        RegisterClusters, ReviewBulletin, SetSchedule, SubmitSummary, WithdrawBulletin, WriteBulletin,
    };
    match role {
        Role::Author => matches!(action, WriteBulletin | PublishBulletin | Read),
        Role::Approver => matches!(action, ReviewBulletin | PublishBulletin | WithdrawBulletin | CommandDevices | Read),
        Role::Operator => {
            matches!(action, RegisterClusters | CommandDevices | ManageAccounts | CarryFeeds | ReadAudit | Read)
        }
        Role::CommuneOfficer => matches!(action, WriteBulletin | SetSchedule | CommandDevices | FileReport | Read),
        Role::Auditor => matches!(action, ReadAudit | Read),
        Role::Administrator => matches!(action, ManageMembers | ReadAudit | Read),
        Role::ProvinceOfficer => {
            matches!(action, WriteBulletin | SetSchedule | RegisterClusters | FileReport | SubmitSummary | Read)
        }
    }
}

/// Who gives a command: one person's account in one role for one area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor<'a> {
    /// The account's name, unique on the node; it is what events say, never a person's name.
    pub account: &'a str,
    /// The role used.
    pub role: Role,
    /// Code of the area the role is bound to; `""` or `VN` is the nation.
    pub area: &'a str,
}

impl Actor<'_> {
    /// Refuses what the role does not allow.
    pub fn allow(&self, action: Action) -> Result<(), Refusal> {
        if may(self.role, action) { Ok(()) } else { Err(Refusal::NotAllowed { action, role: self.role }) }
    }

    /// Whether the area is within what this account answers for.
    pub fn covers(&self, areas: &Areas, area: &str) -> bool {
        areas.covers(self.area, area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_both_write_and_review() {
        for role in Role::ALL {
            assert!(!(may(role, Action::WriteBulletin) && may(role, Action::ReviewBulletin)), "{role:?}");
            assert!(may(role, Action::Read));
        }
    }

    #[test]
    fn an_auditor_changes_nothing() {
        use Action::*;
        for action in [
            WriteBulletin,
            ReviewBulletin,
            PublishBulletin,
            WithdrawBulletin,
            SetSchedule,
            CommandDevices,
            RegisterClusters,
            FileReport,
            SubmitSummary,
            ManageAccounts,
            CarryFeeds,
            ManageMembers,
        ] {
            assert!(!may(Role::Auditor, action), "{action:?}");
        }
        let auditor = Actor { account: "a", role: Role::Auditor, area: "31" };
        let refusal = auditor.allow(FileReport).expect_err("refused");
        assert!(refusal.vi().contains("kiểm tra") && refusal.vi().contains("nộp báo cáo"), "{}", refusal.vi());
    }
}
