//! Members of the gateway: files, rules, and the API by which operators change them.

mod admission;
mod common;
mod files;
mod member;
mod orders;
mod rotation;
mod rules;
mod stolen;
