//! Members of the gateway: files, rules, the API by which operators change them, and what they get of old entries.

mod admission;
mod common;
mod files;
mod member;
mod orders;
mod restored;
mod retention;
mod rotation;
mod rules;
mod stolen;
