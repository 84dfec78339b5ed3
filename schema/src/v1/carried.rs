//! The fields that are part of the format but that this version of vzd does not carry out yet.
//!
//! Writing one is an error at its place: a wish is never accepted and ignored. Whoever makes vzd carry
//! a field out takes its line out of the table here, and nothing else changes.

use super::metadata::Kind;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::fields;
use crate::yaml::{Entry, Node, NodeKind};

/// Fields of VEs and profiles. `group.*` is each field of a group, `list[].field` that of each item.
const REFUSED: &[&str] = &[
    "spec.security.features.bridge",
    "spec.security.features.ipgre",
    "spec.security.features.ipip",
    "spec.security.features.nfs",
    "spec.security.features.nfsd",
    "spec.security.features.ppp",
    "spec.security.features.sit",
];

/// What is to be done instead of writing some of those.
const INSTEAD: &[(&str, &str)] = &[
    ("spec.security.features.bridge", "no switch is needed: the VE's root makes bridges in its own network"),
    ("spec.security.features.ipgre", TUNNELS),
    ("spec.security.features.ipip", TUNNELS),
    ("spec.security.features.sit", TUNNELS),
    (
        "spec.security.features.nfs",
        "a stock kernel mounts NFS in no user namespace: mount it on the host, and name that in `mounts`",
    ),
];
const TUNNELS: &str = "no switch is needed: the VE's root makes tunnels in its own network, once the host has loaded the module";

/// Fields of the host.
const REFUSED_OF_HOST: &[&str] = &["spec.directories.*", "spec.cgroupRoot", "spec.user", "spec.group"];

/// What is to be done instead of writing some of them: they have to hold before the directory is read.
const INSTEAD_OF_HOST: &[(&str, &str)] = &[
    ("spec.directories.*", "all is below the service's `--state-dir`: mount or link another place there"),
    ("spec.cgroupRoot", "give it to the service: `--cgroup-root` or VZD_CGROUP_ROOT"),
    ("spec.user", "give it to the service: `--manifest-user` or VZD_MANIFEST_USER"),
    ("spec.group", "make that group's members members of the group `vzd`"),
];

/// The fields of a kind that are not carried out.
pub(crate) fn refused_fields(kind: Kind) -> impl Iterator<Item = &'static str> {
    match kind {
        Kind::Ve | Kind::Profile => REFUSED,
        Kind::Host => REFUSED_OF_HOST,
    }
    .iter()
    .copied()
}

/// An error for each field that is written but not carried out.
pub(crate) fn check(kind: Kind, root: &Node) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for path in refused_fields(kind) {
        if let Some(group) = path.strip_suffix(".*") {
            let entries = root.get(group).map(Node::entries).unwrap_or_default();
            for entry in entries.iter().filter(|entry| is_written(entry)) {
                let path = format!("{group}.{}", entry.key.text);
                // A field that the format does not have is another error, and told elsewhere.
                if fields::find(kind, &path).is_some() {
                    problems.push(refuse(&path, entry));
                }
            }
        } else if let Some((list, field)) = path.split_once("[].") {
            let items = root.get(list).map(Node::items).unwrap_or_default();
            let entries = items.iter().filter_map(|item| item.entry(field));
            problems.extend(entries.filter(|entry| is_written(entry)).map(|entry| refuse(path, entry)));
        } else if let Some(entry) = entry(root, path).filter(|entry| is_written(entry)) {
            problems.push(refuse(path, entry));
        }
    }
    problems
}

/// Null unsets, and an empty map or list asks for nothing.
fn is_written(entry: &Entry) -> bool {
    match &entry.value.kind {
        NodeKind::Null => false,
        NodeKind::Scalar { .. } => true,
        NodeKind::Seq(items) => !items.is_empty(),
        NodeKind::Map(entries) => !entries.is_empty(),
    }
}

fn entry<'t>(root: &'t Node, path: &str) -> Option<&'t Entry> {
    let (parent, name) = path.rsplit_once('.')?;
    root.get(parent)?.entry(name)
}

fn refuse(path: &str, entry: &Entry) -> Diagnostic {
    let is_of = |field: &str| match field.strip_suffix(".*") {
        Some(group) => path.rsplit_once('.').is_some_and(|(parent, _)| parent == group),
        None => field == path,
    };
    let instead = INSTEAD.iter().chain(INSTEAD_OF_HOST).find(|(field, _)| is_of(field));
    let message =
        format!("`{path}` is part of the format, but this version of vzd does not carry it out yet");
    Diagnostic::error(Code::NotCarriedOut, message)
        .help(
            instead.map_or("take it out for now; nothing that is written is ever ignored", |(_, instead)| {
                instead
            }),
        )
        .at(&entry.key.span, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_fields_that_there_are() {
        for kind in Kind::ALL {
            for path in refused_fields(kind) {
                let field = fields::find(kind, path.trim_end_matches(".*"));
                assert!(field.is_some(), "{path} is no field of kind {kind}");
                let marked = fields::all().iter().any(|field| {
                    let group =
                        path.strip_suffix(".*").is_some_and(|group| field.parent_and_name().0 == group);
                    field.kind == kind && (group || field.path == path) && !field.carried_out
                });
                assert!(marked, "{path} is not marked in the JSON Schema");
            }
        }
        for (refused, instead) in [(REFUSED, INSTEAD), (REFUSED_OF_HOST, INSTEAD_OF_HOST)] {
            for (path, _) in instead {
                assert!(refused.contains(path), "{path} is carried out");
            }
        }
    }
}
