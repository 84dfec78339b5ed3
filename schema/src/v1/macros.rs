//! How the groups of fields of the format are declared: one line a field, as in the table of the
//! format, with the update class first and the default, where there is one that the format fixes, last.
//!
//! The macro only saves repeating the same serde and schemars attributes a hundred times; it must
//! not give a field any behaviour that cannot be seen in the JSON Schema.

/// Declares a struct of the format.
///
/// `live cpuunits: Option<CpuUnits> = 1000` is a field whose change is `live` and whose default is
/// 1000. The class `none` is for fields that belong to no running VE. A field that is at its Rust
/// default (not written) is left out when serialising, so that equal specs are equal text.
macro_rules! group {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $class:ident $field:ident : $ty:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::v1::is_default")]
                #[schemars(extend("x-vzd-update" = stringify!($class)))]
                $( #[schemars(extend("default" = $default))] )?
                pub $field: $ty,
            )*
        }

        impl crate::v1::sparse::Empty for $name {
            fn empty() -> &'static Self {
                static EMPTY: std::sync::LazyLock<$name> = std::sync::LazyLock::new($name::default);
                &EMPTY
            }
        }
    };
}

/// Declares an item of a list: like [`group!`], with the fields that must be written first, up to the `;`.
macro_rules! item {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$required_meta:meta])* $required_class:ident $required:ident : $required_ty:ty ),+ ;
            $( $(#[$field_meta:meta])* $class:ident $field:ident : $ty:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$required_meta])*
                #[schemars(extend("x-vzd-update" = stringify!($required_class)))]
                pub $required: $required_ty,
            )+
            $(
                $(#[$field_meta])*
                #[serde(default, skip_serializing_if = "crate::v1::is_default")]
                #[schemars(extend("x-vzd-update" = stringify!($class)))]
                $( #[schemars(extend("default" = $default))] )?
                pub $field: $ty,
            )*
        }
    };
}

/// Declares an enum of words, one a variant.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident as $case:literal { $( $(#[$variant_meta:meta])* $variant:ident ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema
        )]
        #[serde(rename_all = $case)]
        pub enum $name { $( $(#[$variant_meta])* $variant ),+ }
    };
}

pub(crate) use {group, item, words};
