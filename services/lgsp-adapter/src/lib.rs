//! The optional way through a province's own platform.
