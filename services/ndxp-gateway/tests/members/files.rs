//! Member files begin members, once; bad ones are refused with their name.

use std::fs;

use httt_feed::{AgencyCode, Algorithm, Directory, FeedId, MemberKind};
use httt_ndxp_gateway::{Kind, MemberFile, enrolment, read_members};
use httt_wire::feed::Event;

use crate::common::{Pki, file, key};

/// Folds enrolment events as the log would hand them out.
fn fold(directory: &mut Directory, files: &[MemberFile]) -> usize {
    let events: Vec<Event> = enrolment(directory, files)
        .into_iter()
        .map(|event| Event { stream: event.stream, r#type: event.kind, data: event.data, ..Event::default() })
        .collect();
    let feed = FeedId::directory(&AgencyCode::new("NDXP").expect("code"));
    directory.apply(&feed, &events);
    events.len()
}

#[test]
fn a_file_begins_a_member_once_and_changes_nothing_afterwards() {
    let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
    let mut files = vec![
        file("NDXP", Kind::Gateway, &[]),
        file("H55", Kind::Province, &["H55.LGSP"]),
        file("H55.LGSP", Kind::Carrier, &[]),
    ];
    assert_eq!(fold(&mut directory, &files), 7);
    let h55 = directory.member(&AgencyCode::new("H55").expect("code")).expect("member");
    assert_eq!((h55.kind, h55.keys().count(), h55.carriers().count()), (MemberKind::Province, 1, 1));
    assert_eq!(fold(&mut directory, &files), 0);
    files[1].name = "Tên mới".into();
    files[1].public_keys.push(hex::encode(key("another").public().value()));
    assert_eq!(fold(&mut directory, &files), 0, "that is the operator's to say");
    files.push(file("H24", Kind::Province, &[]));
    assert_eq!(fold(&mut directory, &files), 2);
}

#[test]
fn a_file_may_bring_keys_of_other_kinds_and_certificates() {
    let pki = Pki::new();
    let p256 = rcgen::KeyPair::generate().expect("P-256");
    let mut h24 = file("H24", Kind::Province, &[]);
    h24.public_keys.push(p256.public_key_pem());
    h24.certificates = vec![pki.issue("h24", "H24"), "ab".repeat(32)];
    fs::create_dir(pki.path("members")).expect("dir");
    fs::write(pki.path("members").join("H24.toml"), toml::to_string(&h24).expect("toml")).expect("write");
    let files = read_members(&pki.path("members")).expect("read");
    let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
    fold(&mut directory, &files);
    let member = directory.member(&AgencyCode::new("H24").expect("code")).expect("member");
    let algorithms: std::collections::BTreeSet<_> = member.keys().map(|key| key.algorithm()).collect();
    assert_eq!(algorithms.into_iter().collect::<Vec<_>>(), [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256]);
    assert_eq!(member.certificates().count(), 2);
}

#[test]
fn files_are_read_by_name_and_bad_ones_are_named() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().expect("dir");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
    write("b.toml", &toml::to_string(&file("H55", Kind::Province, &[])).expect("toml"));
    write("a.toml", &toml::to_string(&file("H24", Kind::Province, &[])).expect("toml"));
    write("notes.txt", "not a member");
    let codes: Vec<_> = read_members(dir.path()).expect("read").into_iter().map(|file| file.code).collect();
    assert_eq!(codes, ["H24", "H55"]);
    let others = pki.issue("h55", "H55");
    for (text, cause) in [
        ("code = \"h24\"\nkind = \"province\"\npublic_keys = []", "code"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = [\"xyz\"]", "public_keys"),
        ("code = \"H24\"\nkind = \"village\"\npublic_keys = []", "kind"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = []\nsecret = 1", "secret"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = []\ncarriers = [\"x y\"]", "carriers"),
        ("code = \"H24\"\nkind = \"province\"\npublic_keys = []\ncertificates = [\"x\"]", "certificates"),
        (&format!("code = \"H24\"\nkind = \"province\"\npublic_keys = []\ncertificates = ['''{others}''']"), "H24"),
    ] {
        write("b.toml", text);
        let error = read_members(dir.path()).expect_err(cause).to_string();
        assert!(error.contains("b.toml") && error.contains(cause), "{error}");
    }
}
