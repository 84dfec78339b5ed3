//! A VE's manifest as that of its clone: the same text, but for the name and for what only one VE can have.

use super::{Change, Value, edit, is_document, read, steps};
use crate::diag::Diagnostic;
use crate::v1::{ALIAS, Kind};

/// What only one VE can have, or goes with that.
const OF_ONE: [&str; 8] = [
    "spec.ctid",
    "spec.hostname",
    "spec.network.addresses",
    "spec.network.devices",
    "spec.network.publish",
    "spec.network.routes",
    "spec.network.rules",
    "spec.security.userNamespace",
];
/// The same of each of its interfaces.
const OF_INTERFACES: [&str; 4] = ["mac", "hostName", "addresses", "gateway"];

/// What a clone is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewVe<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its ctid, if that is not to be assigned.
    pub ctid: Option<u32>,
    /// What its `spec.state` says.
    pub state: &'a str,
}

/// The text of a clone's manifest, made of a text that describes the VE `name` and nothing else; and the fields that were left out.
///
/// # Errors
///
/// Those of [`edit`].
pub fn clone(
    file: &str,
    text: &str,
    name: &str,
    to: NewVe<'_>,
) -> Result<(String, Vec<String>), Vec<Diagnostic>> {
    let trees = read(&file.into(), text).map_err(|problem| vec![*problem])?;
    let said =
        trees.iter().find(|tree| is_document(&tree.root, Kind::Ve, name)).map(|tree| Value::of(&tree.root));
    let says = |path: &str| said.as_ref().is_some_and(|said| said.get(&steps(path)).is_some());
    let alias = format!("metadata.annotations.{ALIAS}");
    let mut left_out: Vec<String> =
        OF_ONE.iter().map(|path| (*path).to_owned()).chain([alias]).filter(|path| says(path)).collect();
    for interface in (0..).map(|at| format!("spec.network.interfaces.{at}")).take_while(|path| says(path)) {
        let fields = OF_INTERFACES.iter().map(|field| format!("{interface}.{field}"));
        left_out.extend(fields.filter(|path| says(path)));
    }
    left_out.retain(|path| path != "spec.ctid" || to.ctid.is_none());
    let removed = left_out.iter().map(|path| Change::remove(path));
    let ctid = to.ctid.map(|ctid| Change::set("spec.ctid", Value::word(ctid)));
    let state = Change::set("spec.state", Value::word(to.state));
    // The last: by its name it is found.
    let renamed = Change::set("metadata.name", Value::Text(to.name.to_owned()));
    let changes: Vec<_> = removed.chain(ctid).chain([state, renamed]).collect();
    Ok((edit(file, text, (Kind::Ve, name), &changes)?, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "\
# The shop.
apiVersion: vzd/v1
kind: VE
metadata:
  name: web01
  annotations: { vzd/name: The Shop, note: kept }
spec:
  ctid: 101
  template: debian-12   # of May
  network:
    addresses: [10.0.0.1]
    interfaces:
      - { name: eth0, bridge: br0, mac: '02:00:00:00:00:01', addresses: [192.0.2.1/24] }
      - name: eth1
        bridge: br1
  memory: { ram: 512M }
";

    #[test]
    fn what_only_one_ve_can_have_is_left_out_and_told() {
        let to = NewVe { name: "web02", ctid: None, state: "stopped" };
        let (text, left_out) = clone("web01.yaml", WEB, "web01", to).unwrap();
        let told = [
            "spec.ctid",
            "spec.network.addresses",
            "metadata.annotations.vzd/name",
            "spec.network.interfaces.0.mac",
            "spec.network.interfaces.0.addresses",
        ];
        assert_eq!(left_out, told);
        assert_eq!(
            text,
            "\
# The shop.
apiVersion: vzd/v1
kind: VE
metadata:
  name: web02
  annotations: { note: kept }
spec:
  template: debian-12   # of May
  network:
    interfaces:
      - { name: eth0, bridge: br0 }
      - name: eth1
        bridge: br1
  memory: { ram: 512M }
  state: stopped
"
        );
        let to = NewVe { name: "web02", ctid: Some(200), state: "running" };
        let (text, left_out) = clone("web01.yaml", WEB, "web01", to).unwrap();
        assert!(text.contains("ctid: 200") && !left_out.contains(&"spec.ctid".to_owned()), "{text}");
    }
}
