//! `httt`.
fn main() {}
