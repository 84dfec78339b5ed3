//! Dependencies between VEs: each must be there, and none may wait for itself by way of others.

use super::Set;
use crate::check::value_place;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::document::Document;
use crate::v1::{Kind, Name, Ve};
use std::collections::{BTreeMap, BTreeSet};

impl<'d> Set<'d> {
    pub(super) fn check_dependencies(&self, problems: &mut Vec<Diagnostic>) {
        // A VE with errors is there all the same.
        let known: BTreeSet<&str> = self
            .documents
            .iter()
            .filter(|document| document.kind == Some(Kind::Ve))
            .filter_map(|document| document.name.as_deref())
            .collect();
        for (document, ve) in self.ves() {
            for (index, name) in ve.spec.depends_on.iter().enumerate() {
                if !known.contains(name.as_str()) {
                    let span = value_place(&document.tree, &format!("spec.dependsOn[{index}]"));
                    let message =
                        format!("`{}` waits for `{name}`, but there is no such VE", ve.metadata.name);
                    problems.push(Diagnostic::error(Code::BadDependency, message).at(span, ""));
                }
            }
        }
        let ves: BTreeMap<&Name, (&Document, &Ve)> =
            self.ves().map(|(document, ve)| (&ve.metadata.name, (document, ve))).collect();
        problems.extend(cycles(&ves).iter().map(|cycle| describe(cycle, &ves)));
    }
}

type Ves<'a> = BTreeMap<&'a Name, (&'a Document, &'a Ve)>;

/// Each circle once. Depth first with a stack of its own: a chain may be longer than ours.
fn cycles<'a>(ves: &Ves<'a>) -> Vec<Vec<&'a Name>> {
    let mut found = Vec::new();
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    for &start in ves.keys() {
        let mut path: Vec<(&Name, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<&Name> = BTreeSet::from([start]);
        while let Some((name, next)) = path.last_mut() {
            let waits_for = ves.get(name).and_then(|(_, ve)| ve.spec.depends_on.get(*next));
            *next += 1;
            match waits_for {
                None => {
                    done.insert(name);
                    on_path.remove(*name);
                    path.pop();
                }
                Some(other) if on_path.contains(other) => {
                    let from = path.iter().position(|(name, _)| *name == other).unwrap_or(0);
                    let circle: Vec<&Name> = path[from..].iter().map(|(name, _)| *name).collect();
                    // A VE that waits for itself is told about when its document is checked.
                    if circle.len() > 1 {
                        found.push(circle);
                    }
                }
                Some(other) if !done.contains(other) => {
                    on_path.insert(other);
                    path.push((other, 0));
                }
                Some(_) => {}
            }
        }
    }
    found
}

fn describe(cycle: &[&Name], ves: &Ves<'_>) -> Diagnostic {
    let names: Vec<String> = cycle.iter().chain(cycle.first()).map(|name| format!("`{name}`")).collect();
    let message = format!("VEs wait for each other: {}", names.join(" waits for "));
    let mut error = Diagnostic::error(Code::BadDependency, message)
        .help("none of them could ever start: break the circle");
    for (index, name) in cycle.iter().enumerate() {
        let next = cycle[(index + 1) % cycle.len()];
        let Some((document, ve)) = ves.get(*name) else { continue };
        let at = ve.spec.depends_on.iter().position(|other| other == next).unwrap_or_default();
        let span = value_place(&document.tree, &format!("spec.dependsOn[{at}]"));
        let text = format!("`{name}` waits for `{next}`");
        error = if index == 0 { error.at(span, text) } else { error.also(span, text) };
    }
    error
}
