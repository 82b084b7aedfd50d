//! Compiles `proto/` with protox: no protoc on anybody's machine.

use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = ["feed", "exchange", "directory", "bulletin", "cluster", "report", "carry"]
        .map(|package| root.join(format!("httt/{package}/v1/{package}.proto")));
    println!("cargo::rerun-if-changed={}", root.display());

    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("httt.descriptors"), descriptors.encode_to_vec())?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.bytes([
        ".httt.feed.v1.Event.data",
        ".httt.feed.v1.SealedBatch.body",
        ".httt.exchange.v1.ReadResponse.entries",
        ".httt.exchange.v1.ReadResponse.packed",
        ".httt.exchange.v1.PushRequest.entries",
        ".httt.exchange.v1.PushRequest.packed",
        ".httt.exchange.v1.Entries.entries",
        ".httt.exchange.v1.ReadMediaResponse.data",
        ".httt.exchange.v1.WriteMediaRequest.data",
        ".httt.carry.v1.Pack.packed",
        ".httt.carry.v1.MediaPiece.data",
    ]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
