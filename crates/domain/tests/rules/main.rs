//! The rules from outside, as a service uses them.
#![allow(missing_docs)]

mod bulletins;
mod clusters;
mod devices;
mod models;
mod reports;
mod schedules;
