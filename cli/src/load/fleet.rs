//! A province's fleet of loudspeaker clusters and what it does all day.
//!
//! - Each cluster reports every 60 s, at a second of its own. 60 % hang on 4G, which loses one report in a hundred.
//! - Mornings from 05:00 and evenings from 17:00 a commune plays a programme of 3 to 6 items of 3 to 15 minutes with 5 to
//!   40 s between them, its clusters 0 to 20 s apart; three in ten communes play at 11:00 as well. 92 % of clusters take
//!   part in a programme. The first item of morning and evening is the ministry's.
//! - 2.5 % of clusters are broken and never report. A cluster on 4G goes away 0.7 times a day, one on Ethernet 0.2
//!   times, for 2 to 60 minutes, mostly short. The mains of a commune fail every seventh day for 15 to 120 minutes, and
//!   its clusters come back within three minutes of each other.
//! - One cluster in fifty is paused once a day, for 1 to 10 minutes of what it plays.
//! - Volume changes three times in ten days, and temperature and signal differ in every report: none of it is a change.

use httt_domain::cluster::{Activity, NewCluster};
use httt_domain::device::{StatusReport, read_value};
use serde_json::json;

use super::random::Random;

/// Seconds between two reports of a cluster.
pub(crate) const REPORT_EVERY_S: u32 = 60;
/// Seconds of a day.
pub(crate) const DAY_S: u32 = 86_400;
/// Clusters of a commune.
const CLUSTERS_OF_A_COMMUNE: u32 = 35;

/// From second to second of a day, the last not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u32,
    to: u32,
}

/// One cluster's day.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) ordinal: u32,
    /// The second of each minute in which it reports.
    pub(crate) second: u32,
    on_4g: bool,
    /// Ascending.
    playing: Vec<Span>,
    paused: Vec<Span>,
    away: Vec<Span>,
    /// When it starts an item of the ministry, and which of the day.
    ministry: Vec<(u32, u32)>,
}

impl Cluster {
    /// What it reports at this second; `None`: nothing comes.
    pub(crate) fn reports(&self, at_s: u32, random: &mut Random) -> Option<Activity> {
        let within = |spans: &[Span]| spans.iter().any(|span| (span.from..span.to).contains(&at_s));
        if within(&self.away) || self.on_4g && random.chance(0.01) {
            None
        } else if !within(&self.playing) {
            Some(Activity::Idle)
        } else if within(&self.paused) {
            Some(Activity::Paused)
        } else {
            Some(Activity::Playing)
        }
    }

    /// The ministry's items that it starts at this second, by their number in the day.
    pub(crate) fn starts(&self, at_s: u32) -> impl Iterator<Item = u32> {
        let away = self.away.iter().any(|span| (span.from..span.to).contains(&at_s));
        self.ministry.iter().filter(move |(start, _)| *start == at_s && !away).map(|(_, item)| *item)
    }
}

/// The clusters as they are registered, spread over `communes`.
pub(crate) fn register(seed: u64, clusters: u32, communes: &[(String, String)]) -> Vec<NewCluster> {
    let mut random = Random::new(seed, u64::MAX);
    (0..clusters)
        .map(|index| {
            let (commune, name) = &communes[(index / CLUSTERS_OF_A_COMMUNE) as usize % communes.len()];
            let vendor = ["VTC", "GTEL", "VNPT", "ACME"][random.between(0, 4) as usize];
            NewCluster {
                // Type code of the model, serial number, and a last digit that nobody checks.
                imei: format!("86{:06}{:06}{}", 412_305 + random.between(0, 5), random.between(0, 999_999), index % 10),
                commune: commune.clone(),
                name: format!("Cụm loa thôn {}, {name}", 1 + index % CLUSTERS_OF_A_COMMUNE),
                vendor: vendor.to_owned(),
            }
        })
        .collect()
}

/// What everybody does on a day.
pub(crate) fn day(seed: u64, day: u32, clusters: u32) -> Vec<Cluster> {
    let communes = clusters.div_ceil(CLUSTERS_OF_A_COMMUNE);
    let plans: Vec<Plan> = (0..communes).map(|commune| Plan::of(seed, day, commune)).collect();
    (1..=clusters).map(|ordinal| cluster(seed, day, ordinal, &plans)).collect()
}

/// What a commune's clusters do together.
struct Plan {
    /// Programmes, each a list of items.
    programmes: Vec<Vec<Span>>,
    mains_failed: Option<Span>,
}

impl Plan {
    fn of(seed: u64, day: u32, commune: u32) -> Self {
        let mut random = Random::new(seed ^ (u64::from(day) << 32), u64::from(commune) << 24);
        let mut begins = vec![5 * 3_600, 17 * 3_600];
        if random.chance(0.3) {
            begins.push(11 * 3_600);
        }
        let quarter = random.between(0, 3) * 900;
        let programmes = begins.into_iter().map(|begin| programme(begin + quarter, &mut random)).collect();
        let mains_failed = random.chance(1.0 / 7.0).then(|| {
            let from = random.between(0, DAY_S);
            Span { from, to: from + random.between(15 * 60, 120 * 60) }
        });
        Self { programmes, mains_failed }
    }
}

fn programme(mut at_s: u32, random: &mut Random) -> Vec<Span> {
    let mut items = Vec::new();
    for _ in 0..random.between(3, 7) {
        let length = random.between(3 * 60, 15 * 60);
        items.push(Span { from: at_s, to: at_s + length });
        at_s += length + random.between(5, 40);
    }
    items
}

fn cluster(seed: u64, day: u32, ordinal: u32, plans: &[Plan]) -> Cluster {
    // What it is, and what it does today.
    let mut nature = Random::new(seed, u64::from(ordinal));
    let mut random = Random::new(seed ^ (u64::from(day) << 32), u64::from(ordinal));
    let (second, on_4g, broken) = (nature.between(0, REPORT_EVERY_S), nature.chance(0.6), nature.chance(0.025));
    let plan = &plans[((ordinal - 1) / CLUSTERS_OF_A_COMMUNE) as usize];
    let mut cluster =
        Cluster { ordinal, second, on_4g, playing: vec![], paused: vec![], away: vec![], ministry: vec![] };
    for (number, items) in (0..).zip(&plan.programmes) {
        if !random.chance(0.92) {
            continue;
        }
        let late = random.between(0, 20);
        for (index, item) in items.iter().enumerate() {
            let from = item.from + late;
            cluster.playing.push(Span { from, to: item.to + late });
            // The noon programme is the commune's own.
            if index == 0 && number < 2 {
                cluster.ministry.push((from, number));
            }
        }
    }
    cluster.playing.sort_by_key(|span| span.from);
    if random.chance(0.02)
        && let Some(item) = cluster.playing.first()
    {
        let from = item.from + 60;
        cluster.paused.push(Span { from, to: from + random.between(60, 600) });
    }
    if broken {
        cluster.away.push(Span { from: 0, to: DAY_S });
    }
    for _ in 0..random.times(if on_4g { 0.7 } else { 0.2 }) {
        let from = random.between(0, DAY_S);
        // Of two drawn lengths the shorter: mostly short.
        let length = random.between(120, 3_600).min(random.between(120, 3_600));
        cluster.away.push(Span { from, to: from + length });
    }
    if let Some(failed) = plan.mains_failed {
        let back = failed.to + random.between(0, 180);
        cluster.away.push(Span { from: failed.from, to: back });
    }
    cluster
}

/// A report as the device sends it, read as the province reads it. Only its activity can be a change.
pub(crate) fn report(cluster: &NewCluster, activity: Activity, random: &mut Random) -> anyhow::Result<StatusReport> {
    let code = match activity {
        Activity::Playing => "0",
        Activity::Paused => "1",
        Activity::Idle => "2",
    };
    let playing = activity == Activity::Playing;
    let body = json!({
        "NguonID": cluster.commune, "TenNguon": "Đài truyền thanh xã", "CumLoaID": cluster.imei,
        "TenThietBi": cluster.name, "TenLoaiThietBi": "Cụm loa IP", "MaNhaCungCap": cluster.vendor,
        "TenNhaCungCap": "Nhà cung cấp thiết bị",
        "AmLuong": random.between(40, 90).to_string(),
        "TrangThaiHoatDong": code,
        "TrangThaiKetNoi": format!("4G,-{}dbm", random.between(60, 110)),
        "ViDo": 20.86, "KinhDo": "106.68",
        "ThongTinThietBi": {
            "CongSuat": "50", "NhietDo": random.between(28, 55).to_string(), "DungLuongSuDung": "12%",
        },
        "ThoiDiemBatDau": 1_790_000_000,
        "NoiDungPhat": if playing { "/thiet-bi/media/5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef" } else { "" },
        "PhienBanUngDung": "3.2.1",
    });
    read_value(&body).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_as_it_is_described() {
        let fleet = day(7, 0, 4_000);
        let mut random = Random::new(1, 1);
        let counted = |at_s, random: &mut Random| {
            let mut counts = [0; 3];
            for activity in fleet.iter().filter_map(|cluster| cluster.reports(at_s, random)) {
                counts[activity as usize] += 1;
            }
            counts
        };
        let [playing, _, idle] = counted(3 * 3_600, &mut random);
        assert!(playing == 0 && (3_700..3_960).contains(&idle), "at night: {playing} {idle}");
        let [playing, _, _] = counted(5 * 3_600 + 2_400, &mut random);
        assert!(playing > 2_200, "in the morning: {playing}");
        let items: usize = fleet.iter().map(|cluster| cluster.playing.len()).sum();
        assert!((6..15).contains(&(items / 4_000)), "{items}");
    }

    #[test]
    fn the_same_seed_is_the_same_day() {
        let plays = |seed, number| day(seed, number, 50).iter().map(|one| one.playing.clone()).collect::<Vec<_>>();
        assert_eq!(plays(3, 0), plays(3, 0));
        assert_ne!(plays(3, 0), plays(3, 1));
        assert_ne!(plays(3, 0), plays(4, 0));
    }

    #[test]
    fn a_report_reads_as_one() {
        let one = &register(1, 1, &[("10525".to_owned(), "An Hải".to_owned())])[0];
        let read = report(one, Activity::Paused, &mut Random::new(1, 1)).expect("reads");
        assert_eq!((read.activity, read.identity.imei.as_str()), (Activity::Paused, one.imei.as_str()));
    }
}
