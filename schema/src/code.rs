//! The closed table of error codes, and the page that explains each.
//!
//! A code never changes its meaning and is never used again. To add one: a line here and a page in
//! docs/errors (a test checks that each has the other).

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Declares the codes: number, name, and title.
macro_rules! codes {
    ($( $code:literal $name:ident $title:literal, )+) => {
        /// Which error it is. VZ01xx: manifests; VZ02xx: planning and policy; VZ03xx: running VEs; VZ04xx: the
        /// daemon and the command line; VZ05xx: checkpoints.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $( #[doc = $title] $name, )+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$( Self::$name, )+];

            /// The code as it is printed: `VZ0101`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $code, )+ }
            }

            /// What it means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $( Self::$name => $title, )+ }
            }

            /// The page of docs/errors that explains it.
            pub const fn page(self) -> &'static str {
                match self { $( Self::$name => include_str!(concat!("../../docs/errors/", $code, ".md")), )+ }
            }
        }
    };
}

codes! {
    "VZ0101" UnknownField "unknown field",
    "VZ0102" BadValue "value not allowed",
    "VZ0103" WrongType "wrong type of value",
    "VZ0104" MissingField "missing field",
    "VZ0105" NotCarriedOut "field not carried out yet",
    "VZ0106" DuplicateKey "duplicate key",
    "VZ0107" Syntax "not valid YAML",
    "VZ0108" TooMuch "limits of a manifest exceeded",
    "VZ0109" UnknownKind "unknown kind or version",
    "VZ0110" DuplicateName "two documents with one name",
    "VZ0111" DuplicateCtid "two VEs with one ctid",
    "VZ0112" DuplicateAddress "two VEs with one address",
    "VZ0113" DuplicateMac "two VEs with one MAC address",
    "VZ0114" UnknownProfile "unknown profile",
    "VZ0115" Conflict "conflicting fields",
    "VZ0116" BadDependency "dependency that cannot be met",
    "VZ0117" Encoding "not UTF-8 text",
    "VZ0118" YamlFeature "feature of YAML that manifests may not use",
    "VZ0119" Misfit "beancounters that do not fit each other",
    "VZ0201" KernelLacks "the kernel or host lacks a feature",
    "VZ0202" RestartRequired "change held until the next start",
    "VZ0203" RecreateRefused "change would destroy data",
    "VZ0204" PruneGuard "too many VEs would be removed",
    "VZ0205" WorldMoved "the world moved since the plan",
    "VZ0206" NoIds "ids that a VE needs are not to be had",
    "VZ0207" HostUnknown "a host that a VE is to be on is not known",
    "VZ0301" StartFailed "a step of a start failed",
    "VZ0302" LiveChangeFailed "a live change failed",
    "VZ0303" StopFailed "a stop failed",
    "VZ0304" TemplateUnavailable "template cannot be had",
    "VZ0305" TeardownIncomplete "teardown left something behind",
    "VZ0306" ReadBackDiffers "the kernel's value differs from what was written",
    "VZ0307" NoSuchVe "VE not found or not running",
    "VZ0308" KeeperUnreachable "keeper not reachable",
    "VZ0309" ProbeFailed "probe failed",
    "VZ0310" SnapshotRefused "a snapshot cannot be taken or used",
    "VZ0311" ActionScriptFailed "an action script failed",
    "VZ0312" MountRefused "a VE's root cannot be mounted on the host, or taken away",
    "VZ0313" CloneRefused "a VE cannot be cloned",
    "VZ0401" UnsafeDirectory "manifest directory is not safe",
    "VZ0402" Locked "another controller holds the lock",
    "VZ0403" DaemonUnreachable "daemon not reachable",
    "VZ0404" RecordUnreadable "record unreadable",
    "VZ0405" Usage "command used wrongly",
    "VZ0406" NotEditable "a manifest cannot be edited in place",
    "VZ0407" ResolverFailed "the resolver for VEs does not run",
    "VZ0408" ListenFailed "the controller cannot listen for other hosts",
    "VZ0409" Certificates "a certificate is missing, or does not serve",
    "VZ0501" SuspendFailed "a VE could not be suspended",
    "VZ0502" ResumeFailed "a VE could not be resumed",
    "VZ0503" HandoverRefused "a VE could not be handed over",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is no code of the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an error code")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let code = Self::ALL.iter().find(|code| code.as_str().eq_ignore_ascii_case(text));
        code.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}
