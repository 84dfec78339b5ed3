//! A VE as OpenVZ's `CTID.conf`: the keys that say what its spec says, and what of the spec no key can say. The other way
//! round is `compat::import`. Pure.

mod keys;

use std::collections::BTreeMap;

use serde_json::Value;
use vzd_schema::v1::{ALIAS, DISABLED};

/// What a spec comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CtidConf {
    /// Keys with their values, in the order of a file.
    pub settings: Vec<(&'static str, String)>,
    /// Fields that are in none of them, and why.
    pub residue: Vec<(String, String)>,
}

/// Of a spec as it is resolved, with everything that its profile and the host say.
pub fn ctid_conf(spec: &Value) -> CtidConf {
    let mut left = Left { spec: spec.clone(), conf: CtidConf::default() };
    keys::take_all(&mut left);
    let Left { spec, mut conf } = left;
    leaves("spec", &spec, &mut |field| {
        conf.residue.push((field.to_owned(), "OpenVZ has no parameter for it".to_owned()));
    });
    conf
}

/// What annotations say that keys say there.
pub fn of_notes(annotations: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let said = [(ALIAS, "NAME"), (DISABLED, "DISABLED")].into_iter();
    said.filter_map(|(note, key)| Some((key, annotations.get(note)?.clone()))).collect()
}

impl CtidConf {
    /// The text of the file, with these keys before all others. A shell that reads it in finds the same values.
    pub fn text(&self, first: &[(&'static str, String)]) -> String {
        first
            .iter()
            .chain(&self.settings)
            .map(|(key, value)| format!("{key}=\"{}\"\n", quoted(value)))
            .collect()
    }
}

/// As it stands between double quotes. Nothing in it may mean anything to a shell.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | '"' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// A spec, less what has been said of it.
struct Left {
    spec: Value,
    conf: CtidConf,
}

impl Left {
    /// Takes a field out, if something is said of it.
    fn take(&mut self, field: &str) -> Option<Value> {
        let (group, name) = field.rsplit_once('.').unwrap_or(("", field));
        let mut steps = group.split('.').filter(|step| !step.is_empty());
        let within = steps.try_fold(&mut self.spec, |at, step| at.get_mut(step))?;
        within.as_object_mut()?.remove(name).filter(|value| !value.is_null())
    }

    /// Says a field by a key, if the field is there and its value can be said.
    fn say(&mut self, field: &str, key: &'static str, as_key: impl FnOnce(&Value) -> Result<String, String>) {
        let Some(value) = self.take(field) else { return };
        let said = as_key(&value).and_then(|said| match said.contains(['\n', '\r', '\0']) {
            true => Err("a line of a configuration cannot hold it".to_owned()),
            false => Ok(said),
        });
        match said {
            Ok(said) => self.conf.settings.push((key, said)),
            Err(why) => self.tell(format!("spec.{field}"), why),
        }
    }

    fn tell(&mut self, field: String, why: impl Into<String>) {
        self.conf.residue.push((field, why.into()));
    }
}

/// A scalar as it is written.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Each field that says something. Lists are named as a whole.
fn leaves(field: &str, value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            entries.iter().for_each(|(key, value)| leaves(&format!("{field}.{key}"), value, each));
        }
        Value::Array(items) if items.is_empty() => {}
        _ => each(field),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_is_a_line_and_all_else_is_told() {
        let conf = ctid_conf(&json!({
            "ctid": 101, "state": "running", "hostname": "web", "description": "a \"$HOME\" `id` \\",
            "memory": { "ram": "512M", "swap": "unlimited" }, "timezone": "Europe/Berlin",
            "disk": { "diskspace": "2G:2306867K", "quotatime": "1m30s" }, "cpu": { "cpulimit": "12.5%" },
            "stopTimeout": "500ms",
            "network": {
                "addresses": ["10.0.0.1", "fd00::1"],
                "interfaces": [{ "name": "eth0", "bridge": "br0", "mtu": 1400 }, { "name": "eth1", "parent": "eno1" }],
            },
            "mounts": [{ "source": "/srv", "target": "/srv" }, { "source": "/a", "target": "/b", "idmap": true }],
            "security": { "capabilities": { "add": ["sys_time"], "drop": ["mknod"] }, "features": { "tun": true, "nesting": true } },
        }));
        assert_eq!(
            conf.text(&[("VE_ROOT", "/r".to_owned())]),
            "VE_ROOT=\"/r\"\nPHYSPAGES=\"0:131072\"\nSWAPPAGES=\"0:unlimited\"\nCPULIMIT=\"12.5\"\nDISKSPACE=\"2G:2306867K\"\n\
             QUOTATIME=\"90\"\nHOSTNAME=\"web\"\nIP_ADDRESS=\"10.0.0.1 fd00::1\"\nNETIF=\"ifname=eth0,bridge=br0\"\n\
             FEATURES=\"tun:on\"\nCAPABILITY=\"sys_time:on mknod:off\"\nBINDMOUNT=\"/srv:/srv,nosuid,nodev\"\n\
             DESCRIPTION=\"a \\\"\\$HOME\\\" \\`id\\` \\\\\"\n"
        );
        let told: Vec<_> = conf.residue.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            told,
            [
                "spec.network.interfaces[eth1]",
                "spec.network.interfaces[eth0].mtu",
                "spec.security.features.nesting",
                "spec.mounts[/b]",
                "spec.stopTimeout",
                "spec.timezone",
            ]
        );
    }
}
