//! What must not be in the tree.

/// Libraries that bring another cryptography, another TLS, or a protobuf compiler of their own.
const FORBIDDEN: [&str; 9] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "native-tls",
    "openssl",
    "openssl-sys",
    "protobuf-src",
    "protoc-bin-vendored",
    "protoc-prebuilt",
    "rocksdb",
];

#[test]
fn one_cryptography_one_tls_and_no_protoc() {
    let lock = include_str!("../../Cargo.lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains(&"ring") && names.contains(&"protox"), "Cargo.lock was not understood");
    for name in FORBIDDEN {
        assert!(!names.contains(&name), "{name} is in the dependency tree");
    }
}
