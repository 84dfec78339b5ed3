//! What a guest tells its host: one line of JSON a message. Both ends are this program, so that they can't differ.

use serde_json::{Value, json};

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// It was still running at its deadline, and was killed.
    Hung,
    /// The guest lacks what it needs.
    Skipped {
        why: String,
    },
}

/// One test's end.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) test: String,
    pub(super) verdict: Verdict,
    pub(super) seconds: f64,
    /// All that it printed; of a failure also the kernel's log of its time.
    pub(super) output: String,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The guest is up; this is its kernel.
    Hello {
        kernel: String,
    },
    /// Nothing has happened, which is not the same as silence.
    Alive,
    Started {
        test: String,
    },
    Ended(Outcome),
    /// This test has asked for a reboot, after which it goes on.
    Reboots {
        test: String,
    },
    /// Every test has ended.
    Done,
}

impl Message {
    /// As a line, with its end.
    pub(super) fn line(&self) -> String {
        let value = match self {
            Message::Hello { kernel } => json!({ "is": "hello", "kernel": kernel }),
            Message::Alive => json!({ "is": "alive" }),
            Message::Started { test } => json!({ "is": "started", "test": test }),
            Message::Reboots { test } => json!({ "is": "reboots", "test": test }),
            Message::Done => json!({ "is": "done" }),
            Message::Ended(Outcome { test, verdict, seconds, output }) => {
                let (verdict, why) = match verdict {
                    Verdict::Passed => ("passed", ""),
                    Verdict::Failed => ("failed", ""),
                    Verdict::Hung => ("hung", ""),
                    Verdict::Skipped { why } => ("skipped", why.as_str()),
                };
                json!({ "is": "ended", "test": test, "verdict": verdict, "why": why, "seconds": seconds,
                        "output": output })
            }
        };
        format!("{value}\n")
    }

    /// Reads a line; none if it is not one of ours.
    pub(super) fn read(line: &str) -> Option<Message> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        Some(match text("is")?.as_str() {
            "hello" => Message::Hello { kernel: text("kernel")? },
            "alive" => Message::Alive,
            "started" => Message::Started { test: text("test")? },
            "reboots" => Message::Reboots { test: text("test")? },
            "done" => Message::Done,
            "ended" => Message::Ended(Outcome {
                test: text("test")?,
                verdict: match text("verdict")?.as_str() {
                    "passed" => Verdict::Passed,
                    "failed" => Verdict::Failed,
                    "hung" => Verdict::Hung,
                    "skipped" => Verdict::Skipped { why: text("why")? },
                    _ => return None,
                },
                seconds: value.get("seconds")?.as_f64()?,
                output: text("output")?,
            }),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ended = |verdict| {
            Message::Ended(Outcome { test: "a::b".into(), verdict, seconds: 1.5, output: "x\n\"y\"".into() })
        };
        for message in [
            Message::Hello { kernel: "6.12".into() },
            Message::Alive,
            Message::Started { test: "a".into() },
            Message::Reboots { test: "a".into() },
            Message::Done,
            ended(Verdict::Passed),
            ended(Verdict::Failed),
            ended(Verdict::Hung),
            ended(Verdict::Skipped { why: "Tun: no".into() }),
        ] {
            assert_eq!(Message::read(message.line().trim_end()), Some(message));
        }
        assert_eq!(Message::read("[  1.0] a kernel's line"), None);
    }
}
