//! A VE's spec as it holds in the end: host's defaults, below its profile's, below its own.

use super::Set;
use crate::check::{self, place, value_place};
use crate::code::Code;
use crate::decode::decode;
use crate::diag::Diagnostic;
use crate::document::Document;
use crate::suggest::Suggest;
use crate::v1::{Kind, State, Ve, VeSpec};
use crate::yaml::{Entry, Key, Node, NodeKind, merge};
use std::sync::Arc;

/// A spec with everything it takes over.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The spec.
    pub spec: VeSpec,
    /// The document with that spec: the place of a node tells which file it came from.
    pub tree: Node,
}

/// What a host says for VEs that do not: its field, and theirs.
const HOST_DEFAULTS: [(&str, &str); 2] =
    [("defaultTemplate", "template"), ("quarantineTTL", "quarantineTTL")];

/// The bridge of interfaces that name none, of the host.
const HOST_BRIDGE: &str = "spec.network.bridge";

/// Fields that say one thing in two ways. What a VE says itself counts, in whichever of them its profile says another.
const SYNONYMS: [(&str, &str); 2] =
    [("memory.ram", "beancounters.physpages"), ("memory.swap", "beancounters.swappages")];

impl Set<'_> {
    /// Puts together the spec of a VE, or says why that cannot be done. Errors of the document itself
    /// were told when it was parsed: for such a one the list is empty.
    pub fn resolve(&self, document: &Document) -> Result<Resolved, Vec<Diagnostic>> {
        let Some(ve) = document.ve() else { return Err(Vec::new()) };
        let mut layers: Vec<Node> = Vec::new();
        layers.extend(self.host_defaults());
        let profile = self.profile_of(document, ve).map_err(|problem| vec![problem])?;
        layers.extend(profile.map(|profile| without_synonyms(profile, &document.tree)));
        let bridge = self.host_bridge();
        let resolved = if layers.is_empty() && bridge.is_none() {
            Resolved { spec: ve.spec.clone(), tree: document.tree.clone() }
        } else {
            layers.extend(
                document.tree.entry("spec").map(|entry| entry.value.clone()).filter(|node| !node.is_null()),
            );
            let spec = layers.into_iter().reduce(|base, over| merge(&base, &over));
            let spec = spec.map(|spec| match bridge {
                Some(bridge) => with_bridge(&spec, bridge),
                None => spec,
            });
            let tree = with_spec(&document.tree, spec);
            let Ve { spec, .. } = decode::<Ve>(&tree, &Suggest::new(Kind::Ve))?;
            Resolved { spec, tree }
        };
        let mut problems = check::resolved(&ve.metadata.name, &resolved.spec, &resolved.tree);
        if resolved.spec.template.is_none() && resolved.spec.state != Some(State::Absent) {
            let message = format!("`{}` has no template", ve.metadata.name);
            let error = Diagnostic::error(Code::MissingField, message)
                .at(place(&document.tree, "spec"), "`template` is missing here");
            problems.push(
                error.help("write `template:` here or in its profile, or `defaultTemplate:` for the host"),
            );
        }
        if !problems.iter().any(Diagnostic::is_error) { Ok(resolved) } else { Err(problems) }
    }

    /// The host's defaults in the form of a spec.
    fn host_defaults(&self) -> Option<Node> {
        let host = self.host.filter(|host| host.manifest.is_some())?;
        let spec = host.tree.get("spec")?;
        let entries: Arc<[Entry]> = HOST_DEFAULTS
            .into_iter()
            .filter_map(|(theirs, ours)| {
                let entry = spec.entry(theirs).filter(|entry| !entry.value.is_null())?;
                let key = Key { text: ours.into(), ..entry.key.clone() };
                Some(Entry { key, value: entry.value.clone() })
            })
            .collect();
        (!entries.is_empty()).then(|| Node { span: spec.span.clone(), kind: NodeKind::Map(entries) })
    }

    /// Where the host names the bridge of interfaces that name none.
    fn host_bridge(&self) -> Option<&Entry> {
        let host = self.host.filter(|host| host.manifest.is_some())?;
        let (parent, field) = HOST_BRIDGE.rsplit_once('.')?;
        host.tree.get(parent)?.entry(field).filter(|entry| !entry.value.is_null())
    }

    /// The spec of the profile that a VE takes, if it takes one that has a spec.
    fn profile_of(&self, document: &Document, ve: &Ve) -> Result<Option<Node>, Diagnostic> {
        let default = || {
            let host = self.host?;
            Some((
                host.host()?.spec.default_profile.as_ref()?,
                value_place(&host.tree, "spec.defaultProfile"),
            ))
        };
        let own = ve.spec.profile.as_ref().map(|name| (name, value_place(&document.tree, "spec.profile")));
        let Some((name, span)) = own.or_else(default) else { return Ok(None) };
        match self.profiles.get(name.as_str()) {
            Some(profile) if profile.manifest.is_some() => {
                Ok(profile.tree.get("spec").filter(|spec| !spec.is_null()).cloned())
            }
            Some(profile) => {
                let message =
                    format!("the profile `{name}` has errors, so `{}` cannot take it", ve.metadata.name);
                Err(Diagnostic::error(Code::UnknownProfile, message)
                    .at(span, "taken here")
                    .also(value_place(&profile.tree, "metadata.name"), "this one"))
            }
            None => {
                let error = Diagnostic::error(Code::UnknownProfile, format!("there is no profile `{name}`"))
                    .at(span, "");
                let known: Vec<&str> = self.profiles.keys().copied().take(10).collect();
                Err(if known.is_empty() {
                    error
                } else {
                    error.help(format!("there are: {}", known.join(", ")))
                })
            }
        }
    }
}

/// A profile's spec without what the VE itself says in other words.
fn without_synonyms(profile: Node, ve: &Node) -> Node {
    let says = |field: &str| ve.get(&format!("spec.{field}")).is_some_and(|node| !node.is_null());
    let pairs = SYNONYMS.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
    pairs
        .filter(|(said, other)| says(said) && !says(other))
        .fold(profile, |profile, (_, other)| without(&profile, &other.split('.').collect::<Vec<_>>()))
}

fn without(node: &Node, path: &[&str]) -> Node {
    let Some((first, rest)) = path.split_first() else { return node.clone() };
    let kept = node.entries().iter().filter(|entry| !rest.is_empty() || *entry.key.text != **first);
    let entries: Vec<Entry> = kept
        .map(|entry| match &*entry.key.text == *first {
            true => Entry { key: entry.key.clone(), value: without(&entry.value, rest) },
            false => entry.clone(),
        })
        .collect();
    match node.kind {
        NodeKind::Map(_) => Node { span: node.span.clone(), kind: NodeKind::Map(entries.into()) },
        _ => node.clone(),
    }
}

/// A spec in which each interface that is linked to nothing is a port of that bridge.
fn with_bridge(spec: &Node, bridge: &Entry) -> Node {
    let is_linked = |item: &Node| {
        ["bridge", "parent"].iter().any(|field| item.entry(field).is_some_and(|is| !is.value.is_null()))
    };
    let linked = |item: &Node| match &item.kind {
        NodeKind::Map(entries) if !is_linked(item) => {
            let own = entries.iter().filter(|entry| &*entry.key.text != "bridge").cloned();
            Node { span: item.span.clone(), kind: NodeKind::Map(own.chain([bridge.clone()]).collect()) }
        }
        _ => item.clone(),
    };
    replaced(spec, &["network", "interfaces"], &|list| match &list.kind {
        NodeKind::Seq(items) => {
            Node { span: list.span.clone(), kind: NodeKind::Seq(items.iter().map(linked).collect()) }
        }
        _ => list.clone(),
    })
}

/// A node with another one at a path, if there is one.
fn replaced(node: &Node, path: &[&str], with: &dyn Fn(&Node) -> Node) -> Node {
    let Some((first, rest)) = path.split_first() else { return with(node) };
    let NodeKind::Map(entries) = &node.kind else { return node.clone() };
    let entries = entries.iter().map(|entry| match &*entry.key.text == *first {
        true => Entry { key: entry.key.clone(), value: replaced(&entry.value, rest, with) },
        false => entry.clone(),
    });
    Node { span: node.span.clone(), kind: NodeKind::Map(entries.collect()) }
}

/// A document's tree with another spec.
fn with_spec(tree: &Node, spec: Option<Node>) -> Node {
    let Some(spec) = spec else { return tree.clone() };
    let key = tree
        .entry("spec")
        .map_or_else(|| Key { span: tree.span.clone(), text: "spec".into() }, |entry| entry.key.clone());
    let others = tree.entries().iter().filter(|entry| &*entry.key.text != "spec").cloned();
    let entries: Arc<[Entry]> = others.chain([Entry { key, value: spec }]).collect();
    Node { span: tree.span.clone(), kind: NodeKind::Map(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a VE's spec says of its memory in the end, over that profile's.
    fn memory(profile: &str, own: &str) -> [Option<String>; 4] {
        let text = format!(
            "apiVersion: vzd/v1\nkind: Profile\nmetadata: {{name: p}}\nspec: {profile}\n---\n\
             apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: v}}\nspec: {{template: tiny, profile: p, {own}}}\n"
        );
        let documents = crate::parse("f", text.as_bytes()).documents;
        let set = Set::new(&documents);
        let spec = set.resolve(&documents[1]).unwrap().spec;
        [
            spec.memory.ram.map(|is| is.to_string()),
            spec.memory.swap.map(|is| is.to_string()),
            spec.beancounters.physpages.map(|is| is.to_string()),
            spec.beancounters.swappages.map(|is| is.to_string()),
        ]
    }

    #[test]
    fn what_a_ve_says_hides_what_its_profile_says_in_other_words() {
        let said = |is: [&str; 4]| is.map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let counters = "{beancounters: {physpages: \"0:256M\", swappages: \"0:512M\", numproc: 5}}";
        assert_eq!(memory(counters, ""), said(["", "", "0:65536", "0:131072"]));
        assert_eq!(memory(counters, "memory: {ram: 1G}"), said(["1G", "", "", "0:131072"]));
        let sizes = "{memory: {ram: 256M, swap: 512M}}";
        assert_eq!(memory(sizes, "beancounters: {swappages: \"0:1G\"}"), said(["256M", "", "", "0:262144"]));
        // What says both says it twice.
        assert_eq!(
            memory(counters, "memory: {ram: 256M}, beancounters: {physpages: \"0:256M\"}"),
            said(["256M", "", "0:65536", "0:131072"])
        );
    }

    #[test]
    fn the_hosts_bridge_is_that_of_interfaces_that_name_none() {
        let ve = "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: v}\nspec: {template: tiny, network: {interfaces: \
                  [{name: a}, {name: b, bridge: lan}, {name: c, parent: eno1}, {name: d, bridge: null}]}}\n";
        let host =
            "---\napiVersion: vzd/v1\nkind: Host\nmetadata: {name: h}\nspec: {network: {bridge: br0}}\n";
        let text = format!("{ve}{host}");
        let documents = crate::parse("f", text.as_bytes()).documents;
        let spec = Set::new(&documents).resolve(&documents[0]).unwrap();
        let links: Vec<_> =
            spec.spec.network.interfaces.iter().map(|is| (is.bridge.as_ref(), is.parent.as_ref())).collect();
        let (br0, lan, eno1) = ("br0".parse().unwrap(), "lan".parse().unwrap(), "eno1".parse().unwrap());
        assert_eq!(links, [(Some(&br0), None), (Some(&lan), None), (None, Some(&eno1)), (Some(&br0), None)]);
        // Whoever asks where that is said is told of the host's.
        let said = spec.tree.get("spec.network.interfaces[0].bridge").map(|node| node.span.start.line);
        assert_eq!(said, Some(9));
        let wrong = Set::new(&documents[..1]).resolve(&documents[0]).unwrap_err();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
