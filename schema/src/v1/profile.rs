//! `kind: Profile`: defaults that VEs name, as OpenVZ's sample configurations were.

use super::metadata::{ApiVersion, Metadata};
use super::ve::VeSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares the type of a `kind:` that can hold one word only.
macro_rules! kind_word {
    ($(#[$meta:meta])* $name:ident :: $word:ident $(as $rename:literal)?) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema
        )]
        pub enum $name {
            $(#[$meta])*
            #[default]
            $(#[serde(rename = $rename)])?
            $word,
        }
    };
}
pub(crate) use kind_word;

/// Defaults for the VEs that name it in `spec.profile`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// The kind of document.
    pub kind: ProfileKind,
    /// Name, labels, notes.
    pub metadata: Metadata,
    /// What VEs have unless they say otherwise: maps are merged by key, lists replaced, and a VE's
    /// `null` unsets.
    #[serde(default, skip_serializing_if = "crate::v1::is_default")]
    pub spec: VeSpec,
}

kind_word!(
    /// The word `Profile`.
    ProfileKind::Profile
);
