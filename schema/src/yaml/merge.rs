//! Laying one tree over another, as a VE's spec over its profile's.

use super::node::{Entry, Node, NodeKind};

/// `over` laid over `base`: maps are merged by key, anything else of `over` replaces what is in
/// `base`, and a null in `over` takes the key away. Every node keeps the place it came from.
pub fn merge(base: &Node, over: &Node) -> Node {
    let (NodeKind::Map(below), NodeKind::Map(above)) = (&base.kind, &over.kind) else {
        return over.clone();
    };
    let mut entries: Vec<Entry> = Vec::with_capacity(below.len() + above.len());
    for entry in below.iter() {
        match over.entry(&entry.key.text) {
            None => entries.push(entry.clone()),
            Some(ours) if ours.value.is_null() => {}
            Some(ours) => {
                entries.push(Entry { key: ours.key.clone(), value: merge(&entry.value, &ours.value) });
            }
        }
    }
    let new = above.iter().filter(|entry| base.entry(&entry.key.text).is_none() && !entry.value.is_null());
    entries.extend(new.cloned());
    Node { span: over.span.clone(), kind: NodeKind::Map(entries.into()) }
}
