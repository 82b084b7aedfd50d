//! What the node does by itself.
//!
//! Each reactor looks at the models, acts, and remembers in the log what it did, under ids derived from what it did it
//! about. So a replay is silent, and acting twice is acting once.

pub(crate) mod media;
pub(crate) mod receive;
pub(crate) mod ticks;
