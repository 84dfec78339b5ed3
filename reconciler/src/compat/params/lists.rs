//! Parameters that add to lists and take from them: addresses, interfaces, devices, features, capabilities,
//! mounts. Pure.

use serde_json::{Value as Json, json};
use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{Address, Cidr};

use super::Written;
use crate::compat::draft::Draft;

const ADDRESSES: &str = "spec.network.addresses";
const INTERFACES: &str = "spec.network.interfaces";
const DEVICES: &str = "spec.devices";
const MOUNTS: &str = "spec.mounts";

type Put = Result<(), String>;

fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split([' ', ',', '\t']).filter(|part| !part.is_empty())
}

/// Adds addresses; one that is there with another mask is there with this one then.
pub fn ipadd(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in parts(value) {
        let address = address_of(one)?;
        if matches!(one.split('/').next(), Some("0.0.0.0" | "::")) {
            continue;
        }
        let mut list = draft.texts(ADDRESSES);
        let new = Cidr::to_string(&cidr(one)?);
        if list.iter().any(|known| cidr(known).is_ok_and(|known| known.to_string() == new)) {
            continue;
        }
        list.retain(|known| address_of(known).ok().as_ref() != Some(&address));
        list.push(one.to_owned());
        draft.set_words(ADDRESSES, list);
    }
    Ok(())
}

/// Takes addresses away, or all.
pub fn ipdel(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in parts(value) {
        let mut list = draft.texts(ADDRESSES);
        if one == "all" {
            list.clear();
        } else {
            let address = address_of(one)?;
            list.retain(|known| address_of(known).ok().as_ref() != Some(&address));
        }
        if list.is_empty() { draft.remove(ADDRESSES) } else { draft.set_words(ADDRESSES, list) }
    }
    Ok(())
}

fn cidr(text: &str) -> Result<Cidr, String> {
    // OpenVZ takes dotted masks too.
    let text = match text.split_once('/') {
        Some((address, mask)) if mask.contains('.') => {
            let bits = mask.parse::<std::net::Ipv4Addr>().map_err(|_| format!("`{mask}` is no mask"))?;
            format!("{address}/{}", bits.to_bits().count_ones())
        }
        _ => text.to_owned(),
    };
    text.parse().map_err(|wrong| format!("{wrong}"))
}

fn address_of(text: &str) -> Result<Address, String> {
    text.split('/').next().unwrap_or_default().parse().map_err(|wrong| format!("{wrong}"))
}

/// Name servers; `inherit` is the host's.
pub fn nameserver(draft: &mut Draft, value: &str, _: Written) -> Put {
    or_inherit(draft, "spec.network.nameservers", value)
}

/// Domains; `inherit` is the host's.
pub fn searchdomain(draft: &mut Draft, value: &str, _: Written) -> Put {
    or_inherit(draft, "spec.network.searchDomains", value)
}

/// Of several options of one command the lists add up; `inherit` is what holds without them.
fn or_inherit(draft: &mut Draft, field: &str, value: &str) -> Put {
    if value == "inherit" {
        draft.remove(field);
    } else {
        draft.set_words(field, parts(value).map(str::to_owned).collect());
    }
    Ok(())
}

/// Options of a mount.
pub fn mount_opts(draft: &mut Draft, value: &str, _: Written) -> Put {
    draft.set_words("spec.disk.mountOptions", parts(value).map(str::to_owned).collect());
    Ok(())
}

/// `name[,mac,hostif,hostmac,bridge]`, or in files `ifname=..,bridge=..;..`.
pub fn netif_add(draft: &mut Draft, value: &str, written: Written) -> Put {
    for one in value.split(';').filter(|one| !one.trim().is_empty()) {
        let mut interface = json!({});
        if written == Written::File || one.contains('=') {
            for pair in one.split(',').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is no key=value"))?;
                netif_part(&mut interface, key, value)?;
            }
        } else {
            let keys = ["ifname", "mac", "host_ifname", "host_mac", "bridge"];
            for (at, value) in one.split(',').enumerate() {
                let key = keys.get(at).ok_or_else(|| format!("`{one}` has too many parts"))?;
                netif_part(&mut interface, key, value)?;
            }
        }
        let name = interface["name"].as_str().ok_or("an interface needs a name")?.to_owned();
        let mut list = draft.items(INTERFACES);
        if list.iter().any(|known| known["name"] == *name) {
            return Err(format!("there is an interface `{name}` already"));
        }
        list.push(interface);
        draft.set_items(INTERFACES, &list);
    }
    Ok(())
}

fn netif_part(interface: &mut Json, key: &str, value: &str) -> Put {
    let (field, value) = match (key, value) {
        (_, "") => return Ok(()),
        ("ifname", name) => ("name", json!(name)),
        // "Make one": vzd makes one from the VE's identity.
        ("mac", "auto") => return Ok(()),
        ("mac", mac) => ("mac", json!(mac)),
        ("host_ifname", name) => ("hostName", json!(name)),
        ("bridge", name) => ("bridge", json!(name)),
        ("mac_filter", word @ ("on" | "off")) => ("macFilter", json!(word == "on")),
        ("host_mac", _) => return Err("the hardware address of the host's end has no counterpart".to_owned()),
        _ => return Err(format!("`{key}={value}` has no counterpart")),
    };
    interface[field] = value;
    Ok(())
}

/// Changes one interface.
pub fn netif_change(draft: &mut Draft, name: &str, key: &str, value: &str) -> Put {
    let mut list = draft.items(INTERFACES);
    let interface = list
        .iter_mut()
        .find(|known| known["name"] == *name)
        .ok_or_else(|| format!("there is no interface `{name}`"))?;
    match key {
        "ipadd" | "ip" | "ipdel" => interface_address(interface, key == "ipdel", value)?,
        "gw" => interface_gateway(interface, value, true)?,
        "gw6" => interface_gateway(interface, value, false)?,
        "dhcp" | "dhcp6" if on_or_yes(value)? => {
            return Err("whether an interface asks for addresses is the container's own to say".to_owned());
        }
        "dhcp" | "dhcp6" => {}
        "network" => {
            return Err("there are no networks by name: `--bridge` names the host's bridge".to_owned());
        }
        "configure" => {
            return Err("interfaces are always set up from outside: say what is to be so".to_owned());
        }
        _ => netif_part(interface, key, value)?,
    }
    draft.set_items(INTERFACES, &list);
    Ok(())
}

fn on_or_yes(word: &str) -> Result<bool, String> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => on_or_off(word),
    }
}

fn interface_address(interface: &mut Json, away: bool, value: &str) -> Put {
    let texts = |interface: &Json| -> Vec<String> {
        let items = interface["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
    };
    for one in parts(value) {
        let mut list = texts(interface);
        if away && one == "all" {
            list.clear();
        } else {
            let address = address_of(one)?;
            list.retain(|known| address_of(known).ok().as_ref() != Some(&address));
            if !away {
                list.push(cidr(one)?.to_string());
            }
        }
        interface["addresses"] = json!(list);
    }
    Ok(())
}

/// The default route of one family; an empty value takes it away.
fn interface_gateway(interface: &mut Json, value: &str, v4: bool) -> Put {
    let is_it = |address: &Address| address.0.is_ipv4() == v4;
    let items = interface["gateway"].as_array().map(Vec::as_slice).unwrap_or_default();
    let others =
        items.iter().filter_map(Json::as_str).filter(|known| !known.parse().is_ok_and(|known| is_it(&known)));
    let mut list: Vec<String> = others.map(str::to_owned).collect();
    if !value.is_empty() {
        let address: Address = value.parse().map_err(|wrong| format!("{wrong}"))?;
        if !is_it(&address) {
            return Err(format!("`{value}` is of the other family"));
        }
        list.push(value.to_owned());
    }
    interface["gateway"] = json!(list);
    Ok(())
}

/// Takes an interface away, or all.
pub fn netif_del(draft: &mut Draft, value: &str, _: Written) -> Put {
    let mut list = draft.items(INTERFACES);
    let before = list.len();
    list.retain(|known| value != "all" && known["name"] != *value);
    if list.len() == before && value != "all" {
        return Err(format!("there is no interface `{value}`"));
    }
    if list.is_empty() {
        draft.remove(INTERFACES)
    } else {
        draft.set_items(INTERFACES, &list)
    }
    Ok(())
}

/// Gives interfaces of the host.
pub fn netdev_add(draft: &mut Draft, value: &str, _: Written) -> Put {
    const FIELD: &str = "spec.network.devices";
    for name in parts(value) {
        if ["venet", "tun", "tap", "lo"].iter().any(|own| name.starts_with(own)) {
            return Err(format!("`{name}` cannot be given away"));
        }
        let mut list = draft.items(FIELD);
        if !list.iter().any(|known| known["name"] == *name) {
            list.push(json!({ "name": name }));
            draft.set_items(FIELD, &list);
        }
    }
    Ok(())
}

/// Takes one back.
pub fn netdev_del(draft: &mut Draft, value: &str, _: Written) -> Put {
    const FIELD: &str = "spec.network.devices";
    let mut list = draft.items(FIELD);
    list.retain(|known| known["name"] != *value);
    if list.is_empty() {
        draft.remove(FIELD)
    } else {
        draft.set_items(FIELD, &list)
    }
    Ok(())
}

/// `nfs:on,tun:off`.
pub fn features(draft: &mut Draft, value: &str, _: Written) -> Put {
    const KNOWN: &[&str] = &["bridge", "fuse", "ipgre", "ipip", "nfs", "nfsd", "ppp", "sit", "tun"];
    for one in parts(value) {
        let (name, is) = one.split_once(':').ok_or_else(|| format!("`{one}` is no feature:on"))?;
        let on = on_or_off(is)?;
        match name {
            // What a VE has without asking.
            "sysfs" if on => {}
            name if KNOWN.contains(&name) => {
                let field = format!("spec.security.features.{name}");
                // What is off by default need not be said, and what is not carried out cannot be.
                if on { draft.set(&field, Value::word(true)) } else { draft.remove(&field) }
            }
            _ => return Err(format!("the feature `{one}` has no counterpart")),
        }
    }
    Ok(())
}

fn on_or_off(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{word}` is neither on nor off")),
    }
}

/// `c:10:229:rw`, `b:8:all:r`; `none` takes it away.
pub fn devices(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in parts(value) {
        let mut parts = one.split(':');
        let (kind, major, minor, rights) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(kind @ ("b" | "c")), Some(major), Some(minor), Some(rights)) = (kind, major, minor, rights)
        else {
            return Err(format!("`{one}` is no device: write b|c:major:minor|all:[rw]|none"));
        };
        if major == "7" && kind == "b" {
            return Err("loop devices cannot be given away".to_owned());
        }
        let number = format!("{major}:{}", if minor == "all" { "*" } else { minor });
        let kind = if kind == "b" { "block" } else { "char" };
        let same =
            |known: &Json| known["device"] == *number && known["type"] == *kind && known["path"].is_null();
        replace(
            draft,
            DEVICES,
            same,
            rights_of(rights)?.map(|rights| json!({ "type": kind, "device": number, "permissions": rights })),
        );
    }
    Ok(())
}

/// `net/tun:rw`; `none` takes it away.
pub fn devnodes(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in parts(value) {
        let (name, rights) = one.rsplit_once(':').ok_or_else(|| format!("`{one}` is no device:rights"))?;
        let path = format!("/dev/{}", name.trim_start_matches("/dev/"));
        let same = |known: &Json| known["path"] == *path;
        replace(
            draft,
            DEVICES,
            same,
            rights_of(rights)?.map(|rights| json!({ "path": path, "permissions": rights })),
        );
    }
    Ok(())
}

fn rights_of(text: &str) -> Result<Option<String>, String> {
    match text {
        "none" | "" => Ok(None),
        // Managing quotas of a device means nothing here.
        _ if text.bytes().all(|byte| b"rwq".contains(&byte)) => Ok(Some(text.replace('q', ""))),
        _ => Err(format!("`{text}` are no rights: write some of r, w, q, or none")),
    }
}

/// Exchanges the item of a list that is the same thing, adds it, or takes it out.
fn replace(draft: &mut Draft, field: &str, same: impl Fn(&Json) -> bool, new: Option<Json>) {
    let mut list = draft.items(field);
    let at = list.iter().position(&same);
    list.retain(|known| !same(known));
    if let Some(new) = new {
        list.insert(at.unwrap_or(list.len()).min(list.len()), new);
    }
    if list.is_empty() { draft.remove(field) } else { draft.set_items(field, &list) }
}

/// `sys_time:on,chown:off`.
pub fn capability(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in parts(value) {
        let (name, is) = one.split_once(':').ok_or_else(|| format!("`{one}` is no capability:on"))?;
        if name == "ve_admin" {
            return Err(
                "ve_admin is of OpenVZ's kernel: a VE's root rules its own namespaces anyway".to_owned()
            );
        }
        let (put, take) = if on_or_off(is)? { ("add", "drop") } else { ("drop", "add") };
        let (put, take) =
            (format!("spec.security.capabilities.{put}"), format!("spec.security.capabilities.{take}"));
        let same = |known: &str| known.trim_start_matches("CAP_").eq_ignore_ascii_case(name);
        let mut other = draft.texts(&take);
        if other.iter().any(|known| same(known)) {
            other.retain(|known| !same(known));
            if other.is_empty() { draft.remove(&take) } else { draft.set_words(&take, other) }
        }
        let mut list = draft.texts(&put);
        if !list.iter().any(|known| same(known)) {
            list.push(name.to_owned());
            draft.set_words(&put, list);
        }
    }
    Ok(())
}

/// `[src:]dst[,nosuid,noexec,nodev]`.
pub fn bindmount_add(draft: &mut Draft, value: &str, _: Written) -> Put {
    for one in value.split_whitespace() {
        let mut words = one.split(',');
        let paths = words.next().unwrap_or_default();
        let (source, target) = paths.split_once(':').ok_or("a mount needs source:target")?;
        let mut mount = json!({ "source": source, "target": target });
        for word in words {
            match word {
                "nosuid" | "noexec" | "nodev" => mount[word] = json!(true),
                "ro" => mount["readOnly"] = json!(true),
                _ => return Err(format!("`{word}` is no option of a mount")),
            }
        }
        replace(draft, MOUNTS, |known| known["target"] == *target, Some(mount));
    }
    Ok(())
}

/// By target, or all.
pub fn bindmount_del(draft: &mut Draft, value: &str, _: Written) -> Put {
    replace(draft, MOUNTS, |known| value == "all" || known["target"] == *value, None);
    Ok(())
}
