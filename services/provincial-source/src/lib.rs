//! A provincial department's node.
