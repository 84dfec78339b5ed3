//! How it is found out whether a VE does its work: what is asked, how often, and when the answers count.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::units::Millis;

/// A probe of a VE's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// Time between two probes.
    pub interval: Millis,
    /// Time that one probe may take.
    pub timeout: Millis,
    /// Time from the VE's start to the first probe.
    pub initial_delay: Millis,
    /// Failures in a row that make the VE unhealthy.
    pub failure_threshold: u32,
    /// Successes in a row that make it healthy again.
    pub success_threshold: u32,
}

/// What a probe asks of a VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// A command inside the VE; status 0 means healthy.
    Exec(Vec<String>),
    /// A port inside the VE; one that takes a connection means healthy.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A page served inside the VE; a status of 200 to 399 means healthy.
    Http {
        /// The port.
        port: u16,
        /// The path of the page.
        path: String,
    },
}

impl Probe {
    /// As the manifest would write it.
    pub(super) fn shown(&self) -> Value {
        let Self { ask, interval, timeout, initial_delay, failure_threshold, success_threshold } = self;
        let (name, ask) = match ask {
            Ask::Exec(command) => ("exec", json!(command)),
            Ask::Tcp { port } => ("tcp", json!({ "port": port })),
            Ask::Http { port, path } => ("http", json!({ "port": port, "path": path })),
        };
        json!({
            name: ask,
            "interval": interval.to_string(),
            "timeout": timeout.to_string(),
            "initialDelay": initial_delay.to_string(),
            "failureThreshold": failure_threshold,
            "successThreshold": success_threshold,
        })
    }
}
