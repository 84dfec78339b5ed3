//! Documents together: what they may not share, and what they take from each other.
//!
//! A set is made anew from all documents whenever one has changed. It holds references only.

mod depend;
mod resolve;

pub use resolve::Resolved;

use crate::check::value_place;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::document::Document;
use crate::v1::{ALIAS, Address, CtId, Kind, Mac, State, Transport, Ve};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All documents of a host, the last good version of each.
#[derive(Debug, Clone)]
pub struct Set<'d> {
    documents: Vec<&'d Document>,
    profiles: BTreeMap<&'d str, &'d Document>,
    host: Option<&'d Document>,
}

impl<'d> Set<'d> {
    /// A set of these documents, also of those with errors.
    pub fn new(documents: impl IntoIterator<Item = &'d Document>) -> Self {
        let documents: Vec<&Document> = documents.into_iter().collect();
        let profile = |document: &&'d Document| Some((document.name.as_deref()?, *document));
        // Of two with one name the first holds; `check` tells about the second.
        let of_kind = |kind| documents.iter().filter(move |document| document.kind == Some(kind));
        let profiles = of_kind(Kind::Profile).rev().filter_map(profile).collect();
        let host = of_kind(Kind::Host).next().copied();
        Self { profiles, host, documents }
    }

    /// Finds what several documents claim that only one can have (name, ctid, address, MAC address, being
    /// the host), and dependencies that cannot be met. Each error names all places, so that
    /// [`Document::is_concerned_by`] tells which documents it concerns.
    pub fn check(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        self.check_names(&mut problems);
        let mut claims = Claims::default();
        for (document, ve) in self.ves().filter(|(_, ve)| ve.spec.state != Some(State::Absent)) {
            claims.add(document, ve, &mut problems);
        }
        self.check_dependencies(&mut problems);
        problems
    }

    fn ves(&self) -> impl Iterator<Item = (&'d Document, &'d Ve)> + '_ {
        self.documents.iter().filter_map(|document| Some((*document, document.ve()?)))
    }

    fn check_names(&self, problems: &mut Vec<Diagnostic>) {
        let mut names: BTreeMap<(Kind, &str), &Document> = BTreeMap::new();
        let mut host: Option<&Document> = None;
        for document in &self.documents {
            let (Some(kind), Some(name)) = (document.kind, document.name.as_deref()) else { continue };
            let (code, message, before) = if kind == Kind::Host {
                (Code::Conflict, "there is more than one document of kind Host".to_owned(), host)
            } else {
                let before = names.get(&(kind, name)).copied();
                (Code::DuplicateName, format!("two documents of kind {kind} are called `{name}`"), before)
            };
            match before {
                Some(before) => problems.push(both(code, message, document, before, "metadata.name")),
                None if kind == Kind::Host => host = Some(document),
                None => drop(names.insert((kind, name), document)),
            }
        }
        self.check_aliases(&names, problems);
    }

    /// By whatever name a VE is asked for, only one is meant.
    fn check_aliases(&self, names: &BTreeMap<(Kind, &str), &'d Document>, problems: &mut Vec<Diagnostic>) {
        let mut known: BTreeMap<&str, &Document> = BTreeMap::new();
        for (document, ve) in self.ves() {
            let alias = ve.metadata.annotations.iter().find(|(key, _)| key.as_str() == ALIAS);
            let Some(alias) = alias.map(|(_, alias)| alias.as_str()) else { continue };
            let others = names.get(&(Kind::Ve, alias)).filter(|other| !std::ptr::eq(**other, document));
            let place = |of: &Document| {
                let entry = of.tree.get("metadata.annotations").and_then(|notes| notes.entry(ALIAS));
                entry.map(|entry| entry.value.span.clone())
            };
            if let Some(before) = others.or(known.get(alias)) {
                let first =
                    place(before).unwrap_or_else(|| value_place(&before.tree, "metadata.name").clone());
                let error = Diagnostic::error(Code::DuplicateName, format!("two VEs are called `{alias}`"));
                let again = place(document).unwrap_or_else(|| document.span.clone());
                problems.push(error.at(&again, "again here").also(&first, "first here"));
            }
            known.insert(alias, document);
        }
    }
}

fn both(code: Code, message: String, document: &Document, before: &Document, path: &str) -> Diagnostic {
    Diagnostic::error(code, message)
        .at(value_place(&document.tree, path), "again here")
        .also(value_place(&before.tree, path), "first here")
}

/// What VEs have claimed so far, and where.
#[derive(Default)]
struct Claims<'d> {
    ctids: BTreeMap<CtId, (&'d Document, String)>,
    addresses: BTreeMap<IpAddr, (&'d Document, String)>,
    macs: BTreeMap<Mac, (&'d Document, String)>,
    devices: BTreeMap<String, (&'d Document, String)>,
    ports: BTreeMap<(Option<Address>, Transport, u16), (&'d Document, String)>,
}

impl<'d> Claims<'d> {
    fn add(&mut self, document: &'d Document, ve: &Ve, problems: &mut Vec<Diagnostic>) {
        let network = &ve.spec.network;
        if let Some(ctid) = ve.spec.ctid {
            let say = format!("two VEs have the ctid {ctid}");
            problems.extend(claim(
                &mut self.ctids,
                ctid,
                document,
                "spec.ctid".to_owned(),
                Code::DuplicateCtid,
                say,
            ));
        }
        let venet = network.addresses.iter().enumerate();
        let mut addresses: Vec<(IpAddr, String)> =
            venet.map(|(at, address)| (address.address(), format!("spec.network.addresses[{at}]"))).collect();
        for (index, interface) in network.interfaces.iter().enumerate() {
            let item = format!("spec.network.interfaces[{index}]");
            let own = interface.addresses.iter().enumerate();
            addresses.extend(own.map(|(at, address)| (address.address(), format!("{item}.addresses[{at}]"))));
            if let Some(mac) = interface.mac {
                let say = format!("two interfaces have the MAC address {mac}");
                problems.extend(claim(
                    &mut self.macs,
                    mac,
                    document,
                    format!("{item}.mac"),
                    Code::DuplicateMac,
                    say,
                ));
            }
        }
        for (index, publish) in network.publish.iter().enumerate() {
            let path = format!("spec.network.publish[{index}].host");
            let mut taken = publish.host.each().filter_map(|port| {
                let say = format!("the host's port {port} is given twice");
                let key = (publish.address, publish.protocol.unwrap_or(Transport::Tcp), port);
                claim(&mut self.ports, key, document, path.clone(), Code::Conflict, say)
            });
            // Of a range it is enough to know one.
            let first = taken.next();
            taken.for_each(drop);
            problems.extend(first);
        }
        for (index, device) in network.devices.iter().enumerate() {
            let path = format!("spec.network.devices[{index}].name");
            let say = format!("the host's interface {} is given twice", device.name);
            let name = device.name.to_string();
            problems.extend(claim(&mut self.devices, name, document, path, Code::Conflict, say));
        }
        for (address, path) in addresses {
            let say = format!("the address {address} is given twice");
            problems.extend(claim(&mut self.addresses, address, document, path, Code::DuplicateAddress, say));
        }
    }
}

/// Takes something for a document, or says who has it already.
fn claim<'d, K: Ord>(
    claims: &mut BTreeMap<K, (&'d Document, String)>,
    key: K,
    document: &'d Document,
    path: String,
    code: Code,
    message: String,
) -> Option<Diagnostic> {
    if let Some((before, first)) = claims.get(&key) {
        let error = Diagnostic::error(code, message)
            .at(value_place(&document.tree, &path), "again here")
            .also(value_place(&before.tree, first), "first here");
        return Some(error);
    }
    claims.insert(key, (document, path));
    None
}

#[cfg(test)]
mod tests {
    //! Claims on the network, which no file can make while network fields are not carried out.

    use super::*;
    use crate::decode::decode;
    use crate::suggest::Suggest;
    use crate::v1::Manifest;
    use crate::yaml;
    use std::sync::Arc;

    fn document(name: &str, network: &str) -> Document {
        let file: Arc<str> = format!("{name}.yaml").into();
        let text = format!(
            "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: {name}}}\nspec: {{template: x, network: {network}}}\n"
        );
        let root = yaml::build(&file, &text).documents.remove(0).root;
        let ve = decode::<Ve>(&root, &Suggest::new(Kind::Ve)).unwrap();
        Document {
            kind: Some(Kind::Ve),
            name: Some(name.to_owned()),
            span: root.span.clone(),
            manifest: Some(Manifest::Ve(Box::new(ve))),
            tree: root,
        }
    }

    #[test]
    fn interfaces_of_the_host_are_given_once() {
        let one = document("one", "{devices: [{name: eno3}]}");
        let two = document("two", "{devices: [{name: eno2}, {name: eno3, rename: lan}]}");
        let told: Vec<String> =
            Set::new([&one, &two]).check().iter().map(crate::render::render_short).collect();
        assert_eq!(told, ["two.yaml:4:62: error[VZ0115]: the host's interface eno3 is given twice"]);
    }

    #[test]
    fn a_name_means_one_ve() {
        let named = |name: &str, alias: &str| {
            let file: Arc<str> = format!("{name}.yaml").into();
            let text = format!(
                "apiVersion: vzd/v1\nkind: VE\nmetadata: {{name: {name}, annotations: {{vzd/name: {alias}}}}}\nspec: {{template: x}}\n"
            );
            crate::document::parse(&file, text.as_bytes()).documents.remove(0)
        };
        let told = |documents: &[&Document]| -> Vec<String> {
            let set = Set::new(documents.iter().copied());
            set.check().iter().map(crate::render::render_short).collect()
        };
        let (one, two, three) = (named("one", "two"), named("two", "Web"), named("three", "Web"));
        assert_eq!(told(&[&one]), [""; 0]);
        assert_eq!(told(&[&one, &two]), ["one.yaml:3:47: error[VZ0110]: two VEs are called `two`"]);
        assert_eq!(told(&[&two, &three]), ["three.yaml:3:49: error[VZ0110]: two VEs are called `Web`"]);
        assert_eq!(told(&[&named("own", "own")]), [""; 0]);
    }

    #[test]
    fn addresses_are_given_once() {
        let one =
            document("one", "{addresses: [10.1.0.5], interfaces: [{name: eth0, mac: '00:18:51:0a:0b:0c'}]}");
        let two = document(
            "two",
            "{interfaces: [{name: eth0, addresses: [10.1.0.5/24, 10.1.0.6], mac: 00-18-51-0A-0B-0C}]}",
        );
        let problems = Set::new([&one, &two]).check();
        let told: Vec<String> = problems.iter().map(crate::render::render_short).collect();
        assert_eq!(
            told,
            [
                "two.yaml:4:98: error[VZ0113]: two interfaces have the MAC address 00:18:51:0a:0b:0c",
                "two.yaml:4:69: error[VZ0112]: the address 10.1.0.5 is given twice",
            ]
        );
        assert!(problems.iter().all(|problem| one.is_concerned_by(problem) && two.is_concerned_by(problem)));
        assert_eq!(Set::new([&one]).check(), []);
    }
}
