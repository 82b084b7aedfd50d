//! The central source in this process, on the loopback address, driven through its API. But for one test its link up is
//! dead: the service has to work while NDXP is away.

mod bulletins;
mod common;
mod link;
mod media;
mod nation;
mod scope;
mod service;
mod stream;
mod trust;
