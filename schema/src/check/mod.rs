//! What types cannot say: values that do not go together, or do not fit the place they are in.
//!
//! Looks at one document (or one resolved spec) only; what several documents have to do with each
//! other is in [`crate::set`]. The tree is asked for places, never for values.

mod access;
pub mod counters;
mod inside;
mod limits;
mod network;

use self::counters::Tell;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::span::Span;
use crate::v1::{ALIAS, DISABLED, HostSpec, Kind, Manifest, Metadata, Name, VeSpec, defaults, is_alias};
use crate::yaml::{Node, NodeKind, path_steps};
use std::collections::BTreeMap;

/// Checks a document that decodes.
pub(crate) fn document(manifest: &Manifest, root: &Node) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut checker = Checker { root, problems: &mut problems };
    match manifest {
        Manifest::Ve(ve) => {
            checker.annotations(&ve.metadata, Kind::Ve);
            checker.spec(&ve.metadata.name, &ve.spec, Tell::All);
        }
        Manifest::Profile(profile) => {
            checker.annotations(&profile.metadata, Kind::Profile);
            checker.spec(&profile.metadata.name, &profile.spec, Tell::All);
            checker.shared(&profile.spec);
        }
        Manifest::Host(host) => {
            checker.annotations(&host.metadata, Kind::Host);
            checker.host(&host.spec);
        }
    }
    problems
}

/// Checks a spec that was put together of several documents.
pub(crate) fn resolved(name: &Name, spec: &VeSpec, root: &Node) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut checker = Checker { root, problems: &mut problems };
    checker.spec(name, spec, Tell::Errors);
    checker.links(&spec.network);
    problems
}

/// The place of a field: of its key, or of the nearest thing around it that was written.
pub(crate) fn place<'t>(root: &'t Node, path: &str) -> &'t Span {
    let (mut node, mut span) = (root, &root.span);
    for step in path_steps(path) {
        if let Some(entry) = node.entry(step) {
            (node, span) = (&entry.value, &entry.key.span);
        } else if let Some(item) = step.parse::<usize>().ok().and_then(|index| node.items().get(index)) {
            (node, span) = (item, &item.span);
        } else {
            break;
        }
    }
    span
}

/// The place of a field's value; of the key, if the value is a map or list.
pub(crate) fn value_place<'t>(root: &'t Node, path: &str) -> &'t Span {
    match root.get(path) {
        Some(node) if matches!(node.kind, NodeKind::Scalar { .. }) => &node.span,
        _ => place(root, path),
    }
}

struct Checker<'c> {
    root: &'c Node,
    problems: &'c mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn spec(&mut self, name: &Name, spec: &VeSpec, tell: Tell) {
        self.memory(spec);
        self.counters(spec, tell);
        self.health(spec);
        self.mounts(&spec.mounts);
        self.devices(&spec.devices);
        self.security(&spec.security);
        self.network(&spec.network);
        self.inside(spec);
        let mut seen = BTreeMap::new();
        for (index, other) in spec.depends_on.iter().enumerate() {
            let path = format!("spec.dependsOn[{index}]");
            if other == name {
                self.bad(Code::BadDependency, "a VE cannot wait for itself", &path);
            }
            self.once(&mut seen, other, path, |other| format!("`{other}` is listed twice"));
        }
    }

    /// Annotations are anyone's notes, but for those that begin with `vzd/`: a wish is never ignored.
    fn annotations(&mut self, metadata: &Metadata, kind: Kind) {
        let own = metadata.annotations.iter().filter(|(key, _)| key.as_str().starts_with("vzd/"));
        for (key, value) in own {
            let (message, help) = match (kind, key.as_str()) {
                (Kind::Ve, "vzd/reconcile") if value == "disabled" => continue,
                (Kind::Ve, DISABLED) if value == "yes" => continue,
                (Kind::Ve, DISABLED) => {
                    (format!("`{key}: {value}` means nothing"), "write `yes`, or leave it out")
                }
                (Kind::Ve, ALIAS) if is_alias(value) => continue,
                (Kind::Ve, ALIAS) => (
                    format!("`{value}` is no name that a VE can be known by"),
                    "give at most 63 of letters, digits, space and -+_., and no number alone",
                ),
                (Kind::Ve, "vzd/reconcile") => {
                    (format!("`{key}: {value}` means nothing"), "write `disabled`, or leave it out")
                }
                _ => (
                    format!("the annotation `{key}` means nothing to a {kind}"),
                    "vzd knows `vzd/reconcile: disabled`, `vzd/name` and `vzd/disabled: yes` of VEs; notes of your own begin otherwise",
                ),
            };
            let entry = self.root.get("metadata.annotations").and_then(|notes| notes.entry(key.as_str()));
            let span = entry.map_or(&self.root.span, |entry| &entry.key.span);
            self.problems.push(Diagnostic::error(Code::BadValue, message).at(span, "").help(help));
        }
    }

    /// What would be the same for every VE that takes the profile, and must not be.
    fn shared(&mut self, spec: &VeSpec) {
        let mut own = vec![
            ("spec.ctid".to_owned(), spec.ctid.is_some()),
            ("spec.profile".to_owned(), spec.profile.is_some()),
            ("spec.network.addresses".to_owned(), !spec.network.addresses.is_empty()),
        ];
        let macs = spec.network.interfaces.iter().enumerate();
        own.extend(
            macs.map(|(index, port)| (format!("spec.network.interfaces[{index}].mac"), port.mac.is_some())),
        );
        for (path, _) in own.into_iter().filter(|(_, written)| *written) {
            self.bad(Code::Conflict, format!("`{path}` cannot be in a profile: it belongs to one VE"), &path);
        }
    }

    fn host(&mut self, spec: &HostSpec) {
        if let Some(ids) = &spec.subids {
            self.id_range("spec.subids", ids.start, ids.count);
            let one = defaults::USER_NAMESPACE_SIZE;
            if (1..one).contains(&ids.count) {
                let message = format!("{} ids are too few: each VE takes {one}", ids.count);
                self.bad(Code::BadValue, message, "spec.subids.count");
            }
        }
        let mut seen = BTreeMap::new();
        for (index, peer) in spec.peers.iter().enumerate() {
            let path = format!("spec.peers[{index}]");
            if peer.via.as_ref().is_some_and(|via| via.trim().is_empty() || via.contains(['\n', '\0'])) {
                let message = "a command of one line is needed; leave it out for `ssh NAME vzd`";
                self.bad(Code::BadValue, message, &format!("{path}.via"));
            }
            if peer.via.is_some() && peer.address.is_some() {
                let message = "a host is reached by a command or at an address, not by both";
                self.conflict(message, &format!("{path}.address"), &format!("{path}.via"), "");
            }
            self.once(&mut seen, &peer.name, format!("{path}.name"), |name| {
                format!("`{name}` is listed twice")
            });
        }
        let mut seen = BTreeMap::new();
        for (index, address) in spec.listen.iter().enumerate() {
            let path = format!("spec.listen[{index}]");
            if address.port() == 0 {
                self.bad(Code::BadValue, "0 is no port: other hosts have to know it", &path);
            }
            self.once(&mut seen, *address, path, |address| format!("`{address}` is listed twice"));
        }
    }

    /// A range of ids must not hold the host's root, and must end where ids do.
    fn id_range(&mut self, path: &str, start: u32, count: u32) {
        if start == 0 {
            self.bad(
                Code::BadValue,
                "0 is the host's root: no VE may have that id",
                &format!("{path}.start"),
            );
        } else if count == 0 || start.checked_add(count - 1).is_none_or(|last| last == u32::MAX) {
            let message = format!("{count} ids from {start} on are no range: ids end at {}", u32::MAX - 1);
            self.bad(Code::BadValue, message, path);
        }
    }

    /// An error at the value of a field.
    fn bad(&mut self, code: Code, message: impl Into<Box<str>>, path: &str) {
        self.problems.push(Diagnostic::error(code, message).at(value_place(self.root, path), ""));
    }

    /// An error about two fields that do not go together.
    fn conflict(&mut self, message: impl Into<Box<str>>, path: &str, other: &str, help: &str) {
        let error = Diagnostic::error(Code::Conflict, message)
            .at(value_place(self.root, path), "")
            .also(value_place(self.root, other), "does not go with this");
        self.problems.push(if help.is_empty() { error } else { error.help(help) });
    }

    /// An error if the same thing was there before.
    fn once<K: Ord>(
        &mut self,
        seen: &mut BTreeMap<K, String>,
        key: K,
        path: String,
        say: impl Fn(&K) -> String,
    ) {
        if let Some(first) = seen.get(&key) {
            let error = Diagnostic::error(Code::Conflict, say(&key))
                .at(value_place(self.root, &path), "again here")
                .also(value_place(self.root, first), "first here");
            self.problems.push(error);
        } else {
            seen.insert(key, path);
        }
    }
}
