//! Whose word counts for which area.
//!
//! A seal says who speaks, not what they may speak of. That is in the directory: every member answers for one area, and
//! whatever it says of communes elsewhere is left out before the models see it. Otherwise the first to name a commune
//! would have it, and a province could file its neighbour's reports. The directory's word on a member always stands in
//! the log before the member's own, because it is what that is verified by.

use std::collections::BTreeMap;

use httt_domain::area::Areas;
use httt_domain::models::{Fact, Model, ReadModel};
use httt_feed::Lane;
use httt_wire::Message;
use httt_wire::bulletin::{BulletinOffered, BulletinScheduled};
use httt_wire::cluster::{ClusterStatusChanged, ClusterStatusRestated, ClustersRegistered};
use httt_wire::directory::MemberEnrolled;
use httt_wire::report::{ReportFiled, SummarySubmitted};
use serde::{Deserialize, Serialize};

use crate::scope::areas;

/// Members and their areas, folded from the directory as the log has it so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// The node itself: the only one whose lane `local` is here.
    own: Option<String>,
    /// Whose directory it is: the first one's, as for `httt_feed::Directory`.
    gateway: Option<String>,
    /// By agency code; the latest enrolment counts.
    areas: BTreeMap<String, String>,
}

/// What of a fact its origin may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// All of it.
    Whole,
    /// Only this: the message without what lies elsewhere.
    Part(Vec<u8>),
    /// None of it.
    Nothing,
}

impl Model for Reach {
    const NAME: &'static str = "reach";
}

impl ReadModel for Reach {
    /// Takes in who takes part.
    fn apply(&mut self, fact: &Fact<'_>) {
        match Lane::from_wire(fact.lane) {
            Some(Lane::Local) if self.own.is_none() => self.own = Some(fact.origin.to_owned()),
            Some(Lane::Directory) if fact.audience == "*" => {
                if self.gateway.get_or_insert_with(|| fact.origin.to_owned()) == fact.origin
                    && let Some(enrolled) = fact.read::<MemberEnrolled>()
                {
                    self.areas.insert(enrolled.member, enrolled.area);
                }
            }
            _ => {}
        }
    }
}

impl Reach {
    /// What the models may believe of a fact.
    pub(crate) fn admit(&self, fact: &Fact<'_>) -> Admitted {
        let area = self.areas.get(fact.origin).map(String::as_str);
        if self.own.as_deref() == Some(fact.origin) || area.is_some_and(Areas::is_nation) {
            return Admitted::Whole;
        }
        let covers = |code: &str| area.is_some_and(|area| areas().covers(area, code));
        if let Some(filed) = fact.read::<ReportFiled>() {
            Admitted::if_(covers(&filed.area))
        } else if let Some(summary) = fact.read::<SummarySubmitted>() {
            Admitted::if_(covers(&summary.area))
        } else if let Some(scheduled) = fact.read::<BulletinScheduled>() {
            Admitted::if_(covers(&scheduled.commune))
        } else if let Some(mut offered) = fact.read::<BulletinOffered>() {
            let said = offered.communes.len();
            offered.communes.retain(|commune| covers(commune));
            Admitted::kept(said, offered.communes.len(), &offered)
        } else if let Some(mut registered) = fact.read::<ClustersRegistered>() {
            let said = registered.clusters.len();
            registered.clusters.retain(|cluster| covers(&cluster.commune));
            Admitted::kept(said, registered.clusters.len(), &registered)
        } else if fact.is::<ClusterStatusChanged>() || fact.is::<ClusterStatusRestated>() {
            // Clusters left out at their registration have no status that could change.
            Admitted::if_(area.is_some())
        } else {
            Admitted::Whole
        }
    }
}

impl Admitted {
    fn if_(covered: bool) -> Self {
        if covered { Self::Whole } else { Self::Nothing }
    }

    fn kept(said: usize, kept: usize, message: &impl Message) -> Self {
        match kept {
            all if all == said => Self::Whole,
            0 => Self::Nothing,
            _ => Self::Part(message.encode_to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use httt_wire::Name;

    use super::*;

    fn fact<'a>(origin: &'a str, lane: Lane, kind: &'a str, data: &'a [u8]) -> Fact<'a> {
        Fact {
            origin,
            audience: "*",
            lane: lane.to_wire(),
            sequence: 1,
            stream: "s",
            version: 1,
            kind,
            occurred_at_ms: 0,
            actor: "",
            data,
        }
    }

    fn enrol(reach: &mut Reach, by: &str, member: &str, area: &str) {
        let enrolled = MemberEnrolled { member: member.into(), area: area.into(), ..MemberEnrolled::default() };
        reach.apply(&fact(by, Lane::Directory, &MemberEnrolled::full_name(), &enrolled.encode_to_vec()));
    }

    fn admit<M: Message + Name>(reach: &Reach, origin: &str, message: &M) -> Admitted {
        reach.admit(&fact(origin, Lane::Report, &M::full_name(), &message.encode_to_vec()))
    }

    fn summary(area: &str) -> SummarySubmitted {
        SummarySubmitted { area: area.into(), ..SummarySubmitted::default() }
    }

    #[test]
    fn members_speak_of_their_area_as_the_gateway_enrolled_it() {
        let mut reach = Reach::default();
        reach.apply(&fact("TW", Lane::Local, "x", b""));
        reach.apply(&fact("H24", Lane::Local, "x", b""));
        enrol(&mut reach, "NDXP", "H24", "31");
        enrol(&mut reach, "NDXP", "A1", "");
        // A second directory is nobody's.
        enrol(&mut reach, "H24", "H24", "");
        for (origin, area, expected) in [
            ("H24", "31", Admitted::Whole),
            ("H24", "10525", Admitted::Whole),
            ("H24", "19", Admitted::Nothing),
            ("H24", "", Admitted::Nothing),
            ("H24", "99999", Admitted::Nothing),
            ("H55", "19", Admitted::Nothing),
            ("TW", "19", Admitted::Whole),
            ("A1", "VN", Admitted::Whole),
        ] {
            assert_eq!(admit(&reach, origin, &summary(area)), expected, "{origin} {area}");
        }
        enrol(&mut reach, "NDXP", "H24", "19");
        assert_eq!(admit(&reach, "H24", &summary("31")), Admitted::Nothing);
        assert_eq!(admit(&reach, "H24", &summary("19")), Admitted::Whole);
    }

    #[test]
    fn of_many_communes_the_own_ones_are_kept() {
        let mut reach = Reach::default();
        enrol(&mut reach, "NDXP", "H24", "31");
        let offered = |communes: &[&str]| BulletinOffered {
            bulletin: "b".into(),
            communes: communes.iter().map(ToString::to_string).collect(),
        };
        let part = Admitted::Part(offered(&["10525"]).encode_to_vec());
        assert_eq!(admit(&reach, "H24", &offered(&["10525", "01840"])), part);
        assert_eq!(admit(&reach, "H24", &offered(&["01840"])), Admitted::Nothing);
        assert_eq!(admit(&reach, "H24", &offered(&["10525"])), Admitted::Whole);
        assert_eq!(admit(&reach, "H24", &offered(&[])), Admitted::Whole);
        assert_eq!(admit(&reach, "H55", &ClusterStatusChanged::default()), Admitted::Nothing);
        assert_eq!(admit(&reach, "H55", &ClusterStatusRestated::default()), Admitted::Nothing);
        // What cannot be read is no news to any model either.
        let broken = fact("H24", Lane::Report, "httt.report.v1.ReportFiled", &[255]);
        assert_eq!(reach.admit(&broken), Admitted::Whole);
    }
}
