//! The runner of read models: snapshots, versions, damage, other histories, rebuilding, retention.
#![allow(clippy::unwrap_used, reason = "a test")]

mod models {
    mod common;
    mod damage;
    mod offline;
    mod rebuilding;
    mod restarts;
    mod retention;
}
