//! Member files become directory events once, and bad ones are refused with their name.

use std::fs;

use httt_feed::{AgencyCode, Audience, Directory, FeedId, Lane, MemberKind, SigningKey};
use httt_ndxp_gateway::{Kind, MemberFile, enrolment, read_members};
use httt_wire::feed::Event;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("key")
}

fn file(code: &str, kind: Kind, seed: u8, carriers: &[&str]) -> MemberFile {
    MemberFile {
        code: code.into(),
        name: format!("Đơn vị {code}"),
        kind,
        area: "31".into(),
        public_keys: vec![hex::encode(key(seed).public().value())],
        carriers: carriers.iter().map(|carrier| (*carrier).to_owned()).collect(),
    }
}

/// Folds enrolment events as the log would hand them out.
fn fold(directory: &mut Directory, files: &[MemberFile]) -> usize {
    let events: Vec<Event> = enrolment(directory, files)
        .into_iter()
        .map(|event| Event { stream: event.stream, r#type: event.kind, data: event.data, ..Event::default() })
        .collect();
    let feed = FeedId::new(AgencyCode::new("NDXP").expect("code"), Audience::All, Lane::Directory);
    directory.apply(&feed, &events);
    events.len()
}

#[test]
fn enrolling_twice_says_nothing_new_and_a_change_says_only_itself() {
    let mut directory = Directory::trusting(key(1).public().fingerprint());
    let mut files = vec![
        file("NDXP", Kind::Gateway, 1, &[]),
        file("H55", Kind::Province, 2, &["H55.LGSP"]),
        file("H55.LGSP", Kind::Carrier, 3, &[]),
    ];
    assert_eq!(fold(&mut directory, &files), 7);
    let h55 = directory.member(&AgencyCode::new("H55").expect("code")).expect("member");
    assert_eq!((h55.kind, h55.keys().count(), h55.carriers().count()), (MemberKind::Province, 1, 1));
    assert_eq!(fold(&mut directory, &files), 0);
    files[1].name = "Tên mới".into();
    files[1].public_keys.push(hex::encode(key(4).public().value()));
    assert_eq!(fold(&mut directory, &files), 2);
    assert_eq!(fold(&mut directory, &files), 0);
}

#[test]
fn files_are_read_by_name_and_bad_ones_are_named() {
    let dir = tempfile::tempdir().expect("dir");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
    write("b.toml", &toml::to_string(&file("H55", Kind::Province, 2, &[])).expect("toml"));
    write("a.toml", &toml::to_string(&file("H24", Kind::Province, 3, &[])).expect("toml"));
    write("notes.txt", "not a member");
    let codes: Vec<_> = read_members(dir.path()).expect("read").into_iter().map(|file| file.code).collect();
    assert_eq!(codes, ["H24", "H55"]);
    for (text, cause) in [
        ("code = \"h24\"\nkind = \"province\"\npublic_keys = []", "code"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = [\"xyz\"]", "public_keys"),
        ("code = \"H24\"\nkind = \"village\"\npublic_keys = []", "kind"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = []\nsecret = 1", "secret"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = []\ncarriers = [\"x y\"]", "carriers"),
    ] {
        write("b.toml", text);
        let error = read_members(dir.path()).expect_err(cause).to_string();
        assert!(error.contains("b.toml") && error.contains(cause), "{error}");
    }
}
