//! How clients append.

use anyhow::{Result, anyhow};

/// So many clients, each with so many commits under way, each commit with so many events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
    pub(crate) in_flight: usize,
    pub(crate) events: usize,
}

/// The shapes measured.
pub(crate) const SHAPES: [Shape; 8] = [
    Shape { name: "1x1", clients: 1, in_flight: 1, events: 1 },
    Shape { name: "16x1", clients: 16, in_flight: 1, events: 1 },
    Shape { name: "64x1", clients: 64, in_flight: 1, events: 1 },
    Shape { name: "16x100", clients: 16, in_flight: 1, events: 100 },
    Shape { name: "1x64", clients: 1, in_flight: 1, events: 64 },
    Shape { name: "1x64-2", clients: 1, in_flight: 2, events: 64 },
    Shape { name: "1x512", clients: 1, in_flight: 1, events: 512 },
    Shape { name: "1x512-2", clients: 1, in_flight: 2, events: 512 },
];

impl Shape {
    /// The shape of this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let names = || SHAPES.map(|shape| shape.name).join(", ");
        SHAPES.into_iter().find(|shape| shape.name == name).ok_or_else(|| anyhow!("shapes are {}", names()))
    }

    /// Commits that are under way at the same time.
    pub(crate) fn tasks(&self) -> usize {
        self.clients * self.in_flight
    }

    /// Whether every group is exactly one commit however the store groups: one client that waits for each.
    pub(crate) fn alone(&self) -> bool {
        self.clients == 1
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        let clients = if self.clients == 1 { "1 client".to_owned() } else { format!("{} clients", self.clients) };
        let flight = if self.in_flight == 1 { String::new() } else { format!(", {} in flight", self.in_flight) };
        format!("{clients} × {}{flight}", self.events)
    }
}
