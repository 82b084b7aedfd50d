//! Members of the gateway: files, rules, and the API by which operators change them.

mod common;
mod files;
mod orders;
mod restored;
mod rotation;
mod rules;
