//! What every node needs around its log.
