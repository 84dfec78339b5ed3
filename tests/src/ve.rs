//! A VE as `vzd get NAME -o json` shows it.

use serde_json::Value;

/// The document.
#[derive(Debug, Clone)]
pub struct VeStatus(pub Value);

/// A condition of a VE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl VeStatus {
    /// The host's pid of its init, while it runs.
    pub fn init_pid(&self) -> Option<u32> {
        self.0["status"]["initPid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }

    /// The number that OpenVZ's tools know it by, which also names its control group.
    pub fn ctid(&self) -> Option<u64> {
        self.0["status"]["ctid"].as_u64()
    }

    /// Its identity.
    pub fn uid(&self) -> Option<&str> {
        self.0["metadata"]["uid"].as_str()
    }

    /// How many different specs it has had.
    pub fn generation(&self) -> Option<u64> {
        self.0["metadata"]["generation"].as_u64()
    }

    /// A condition, if it has it.
    pub fn condition(&self, name: &str) -> Option<Condition> {
        let conditions = self.0["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == name)?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
    }

    /// Whether a condition is there and true.
    pub fn is(&self, name: &str) -> bool {
        self.condition(name).is_some_and(|condition| condition.status == "True")
    }

    /// Why it isn't Ready; empty if it is or nobody knows.
    pub fn reason(&self) -> String {
        let ready = self.condition("Ready").filter(|ready| ready.status != "True");
        ready.map(|ready| ready.reason).unwrap_or_default()
    }
}
