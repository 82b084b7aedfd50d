//! The national exchange.
