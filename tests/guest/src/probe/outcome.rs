//! How a probe ended, and how system call results become that. Must not know single probes.

use serde::{Deserialize, Serialize};

use crate::sys::{Errno, NoAnswer};

/// How a probe ended.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(super) enum Outcome {
    /// The kernel or a file's mode said no.
    Refused {
        errno: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// There is nothing there to be refused.
    Absent { detail: String },
    /// It worked, or got past every permission check.
    Allowed { detail: String },
    /// The probe could not be carried out, so that nothing is proven.
    Unclear { detail: String },
}

impl Outcome {
    pub(super) fn refused(errno: Errno) -> Outcome {
        Outcome::Refused { errno: errno.to_string(), detail: None }
    }

    /// Not by an errno but by what was found.
    pub(super) fn harmless(detail: impl Into<String>) -> Outcome {
        Outcome::Refused { errno: "none".to_owned(), detail: Some(detail.into()) }
    }

    pub(super) fn absent(detail: impl Into<String>) -> Outcome {
        Outcome::Absent { detail: detail.into() }
    }

    pub(super) fn allowed(detail: impl Into<String>) -> Outcome {
        Outcome::Allowed { detail: detail.into() }
    }

    pub(super) fn unclear(detail: impl Into<String>) -> Outcome {
        Outcome::Unclear { detail: detail.into() }
    }

    /// How bad it would be, for the worst of several.
    fn rank(&self) -> u8 {
        match self {
            Outcome::Absent { .. } => 0,
            Outcome::Refused { .. } => 1,
            Outcome::Unclear { .. } => 2,
            Outcome::Allowed { .. } => 3,
        }
    }

    fn word(&self) -> String {
        match self {
            Outcome::Refused { errno, detail: None } => errno.clone(),
            Outcome::Refused { detail: Some(detail), .. } => detail.clone(),
            Outcome::Absent { detail } => format!("absent ({detail})"),
            Outcome::Allowed { detail } => format!("ALLOWED ({detail})"),
            Outcome::Unclear { detail } => format!("unclear ({detail})"),
        }
    }

    fn with_detail(self, text: String) -> Outcome {
        match self {
            Outcome::Refused { errno, .. } => Outcome::Refused { errno, detail: Some(text) },
            Outcome::Absent { .. } => Outcome::Absent { detail: text },
            Outcome::Allowed { .. } => Outcome::Allowed { detail: text },
            Outcome::Unclear { .. } => Outcome::Unclear { detail: text },
        }
    }
}

impl From<NoAnswer> for Outcome {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Killed(libc::SIGSYS) => {
                Outcome::Refused { errno: "SIGSYS".to_owned(), detail: Some("killed by seccomp".to_owned()) }
            }
            NoAnswer::Killed(libc::SIGALRM) => Outcome::unclear("the probe hung"),
            NoAnswer::Killed(signal) => {
                Outcome::unclear(format!("the probe's process was ended by signal {signal}"))
            }
            NoAnswer::Ended => Outcome::unclear("the probe's process ended without an answer"),
            NoAnswer::Fork(why) => Outcome::unclear(format!("no process for the probe: {why}")),
        }
    }
}

/// Permission denied, in any of its spellings.
const REFUSALS: &[i32] = &[libc::EPERM, libc::EACCES, libc::EROFS];
/// The kernel or the VE doesn't have the thing.
const ABSENCES: &[i32] = &[
    libc::ENOSYS,
    libc::ENOENT,
    libc::ENODEV,
    libc::ENXIO,
    libc::EOPNOTSUPP,
    libc::EAFNOSUPPORT,
    libc::EPROTONOSUPPORT,
    libc::ESOCKTNOSUPPORT,
    libc::ENOTTY,
    libc::ESRCH,
];

/// Judges the result of a call whose arguments are wrong on purpose: any error but a refusal says that it got past the
/// permission check.
pub(super) fn judge<T>(result: Result<T, Errno>) -> Outcome {
    judge_with(result, &[])
}

/// As [`judge`], where these errors too are a refusal.
pub(super) fn judge_with<T>(result: Result<T, Errno>, refusals: &[i32]) -> Outcome {
    match result {
        Ok(_) => Outcome::allowed("it worked"),
        Err(errno) if errno.is_any(REFUSALS) || errno.is_any(refusals) => Outcome::refused(errno),
        Err(errno) if errno.is_any(ABSENCES) => Outcome::absent(errno.to_string()),
        Err(errno) => Outcome::allowed(format!("past the permission check: {errno}")),
    }
}

/// The worst of several tries, with what each of them said.
pub(super) fn worst<S: AsRef<str>>(tries: impl IntoIterator<Item = (S, Outcome)>) -> Outcome {
    let mut tries: Vec<(S, Outcome)> = tries.into_iter().collect();
    // The bad ones first, so that a cut-off message shows them.
    tries.sort_by_key(|(_, outcome)| std::cmp::Reverse(outcome.rank()));
    let said: Vec<String> =
        tries.iter().map(|(name, outcome)| format!("{}: {}", name.as_ref(), outcome.word())).collect();
    match tries.into_iter().next() {
        Some((_, outcome)) => outcome.with_detail(said.join("; ")),
        None => Outcome::absent("nothing to try"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_argument_is_past_the_check() {
        assert!(matches!(judge(Err::<(), _>(Errno(libc::EINVAL))), Outcome::Allowed { .. }));
        assert!(matches!(
            judge_with(Err::<(), _>(Errno(libc::EINVAL)), &[libc::EINVAL]),
            Outcome::Refused { .. }
        ));
        assert!(matches!(judge(Err::<(), _>(Errno(libc::ENOSYS))), Outcome::Absent { .. }));
    }

    #[test]
    fn the_worst_wins_and_all_are_told() {
        let outcome = worst([("a", Outcome::absent("ENOENT")), ("b", Outcome::allowed("it worked"))]);
        assert_eq!(outcome, Outcome::allowed("b: ALLOWED (it worked); a: absent (ENOENT)"));
    }
}
