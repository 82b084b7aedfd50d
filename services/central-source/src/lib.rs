//! The ministry's node.
