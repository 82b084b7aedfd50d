//! The copying protocol and its drivers.
