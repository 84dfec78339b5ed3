//! From a manifest, with profiles merged under it, to what is wanted with every default filled in.
//!
//! The host is asked nothing: what its device nodes are comes in as an argument.

mod devices;
mod health;
mod life;
mod places;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::Value;
use vzd_schema::v1::{self, defaults};
use vzd_schema::{Document, Node, Resolved, VeSpec};

use crate::desired::{Desired, FieldSource, Places, SourceRef};
use crate::digest::SpecDigest;
use crate::ids::{Ctid, IdRange, VeName};
use crate::ledger::Entry;
use crate::subsystem::devices::DeviceKind;
use crate::subsystem::lifecycle::{DeletionPolicy, State};
use crate::subsystem::namespaces::{Mount, MountFlags};
use crate::subsystem::{beancounters, cgroup, disk, json, namespaces, network, packages, users};
use crate::units::Millis;

/// What a device node of the host is.
pub type HostDevice = (DeviceKind, u32, u32);

/// Tells what the host's device node at a path is.
pub type FindDevice<'a> = &'a dyn Fn(&str) -> Option<HostDevice>;

/// A field that cannot be carried out as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct LowerError {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// Lowers a VE's document with what it takes over from its profile and the host. All that is wrong is
/// reported, not the first only.
pub fn lower(
    document: &Document,
    resolved: &Resolved,
    find_device: FindDevice<'_>,
) -> Result<Desired, Vec<LowerError>> {
    let Some(ve) = document.ve() else {
        let why = "the document is no VE, or has errors".to_owned();
        return Err(vec![LowerError { field: "kind".to_owned(), why }]);
    };
    let v1::Metadata { name, labels, annotations } = &ve.metadata;
    let given = Given {
        name: name.as_str(),
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        annotations: annotations.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        source: SourceRef { file: Arc::clone(&document.span.file), line: document.span.start.line },
        canonical: Arc::new(json(&resolved.spec)),
        places: Some((document, &resolved.tree)),
    };
    lower_spec(given, &resolved.spec, find_device)
}

/// Lowers the last good spec of a VE whose manifest is broken or gone. Its digest is the ledger's, so
/// that it is the same generation even if a later version of vzd writes specs in another way.
pub fn lower_entry(entry: &Entry, find_device: FindDevice<'_>) -> Result<Desired, Vec<LowerError>> {
    let spec = VeSpec::deserialize(&*entry.spec)
        .map_err(|error| vec![LowerError { field: "spec".to_owned(), why: error.to_string() }])?;
    let given = Given {
        name: entry.name.as_str(),
        labels: entry.labels.clone(),
        annotations: entry.annotations.clone(),
        source: entry.source.clone(),
        canonical: entry.spec.clone(),
        places: None,
    };
    let desired = lower_spec(given, &spec, find_device)?;
    Ok(Desired { digest: entry.digest.clone(), ..desired })
}

/// Lowers what a VE is to have instead of what its manifest says; it stays the same manifest, with its digest.
pub fn lower_over(
    want: &Desired,
    spec: &Value,
    find_device: FindDevice<'_>,
) -> Result<Desired, Vec<LowerError>> {
    let of_spec = VeSpec::deserialize(spec)
        .map_err(|error| vec![LowerError { field: "spec".to_owned(), why: error.to_string() }])?;
    let given = Given {
        name: want.name.as_str(),
        labels: want.labels.clone(),
        annotations: want.annotations.clone(),
        source: want.source.clone(),
        canonical: want.spec.clone(),
        places: None,
    };
    let laid = lower_spec(given, &of_spec, find_device)?;
    Ok(Desired { digest: want.digest.clone(), fields: want.fields.clone(), ..laid })
}

/// What stands around a spec.
struct Given<'a> {
    name: &'a str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    source: SourceRef,
    canonical: Arc<Value>,
    /// The document and the tree with all that it takes over; none for a spec of the ledger.
    places: Option<(&'a Document, &'a Node)>,
}

impl Given<'_> {
    /// Who says a field, if anyone does.
    fn place(&self, path: &str) -> Option<FieldSource> {
        let (document, tree) = self.places?;
        let span = &tree.get(path)?.span;
        let own = span.file == document.span.file
            && document.span.start <= span.start
            && span.start <= document.span.end;
        // A list or map is said where its key is.
        let key =
            path.rsplit_once('.').and_then(|(parent, name)| Some(&tree.get(parent)?.entry(name)?.key.span));
        let at = key.filter(|key| key.file == span.file).unwrap_or(span);
        let place = SourceRef { file: Arc::clone(&at.file), line: at.start.line };
        Some(FieldSource { place, inherited: !own })
    }
}

fn lower_spec(
    given: Given<'_>,
    spec: &VeSpec,
    find_device: FindDevice<'_>,
) -> Result<Desired, Vec<LowerError>> {
    let mut wrong = Errors::default();
    let name: Option<VeName> = wrong.check("metadata.name", given.name.parse());
    let ctid = spec.ctid.and_then(|ctid| wrong.check("spec.ctid", Ctid::try_from(ctid.get())));
    let lifecycle = life::lower_lifecycle(spec, &given.annotations, &mut wrong);
    if spec.template.is_none() && lifecycle.state != State::Absent {
        wrong.add("spec.template", "a VE needs a template");
    }
    let fields: Places = places::locate(spec, &given).into();
    let disk = disk::Desired {
        template: spec.template.as_ref().map_or_else(String::new, ToString::to_string),
        inherited: fields.get("spec.template").is_none_or(|source| source.inherited),
        may_destroy: lifecycle.deletion_policy == DeletionPolicy::Destroy,
        ..lower_disk(&spec.disk)
    };
    let namespaces = namespaces::Desired {
        hostname: spec.hostname.as_ref().map_or_else(|| given.name.to_owned(), ToString::to_string),
        domainname: spec.domainname.as_ref().map_or_else(String::new, ToString::to_string),
        timezone: spec.timezone.as_ref().map(ToString::to_string),
        locale: spec.locale.as_ref().map(ToString::to_string),
        mounts: spec.mounts.iter().map(lower_mount).collect(),
        id_range: lower_id_range(spec, &mut wrong),
    };
    let devices = devices::lower_devices(spec, find_device, &mut wrong);
    match name {
        Some(name) if wrong.0.is_empty() => Ok(Desired {
            name,
            ctid,
            source: given.source,
            labels: given.labels,
            annotations: given.annotations,
            host: spec.host.clone(),
            description: spec.description.clone(),
            digest: SpecDigest::of(&given.canonical),
            spec: given.canonical,
            fields,
            cgroup: cgroup::Desired { frozen: lifecycle.state == State::Paused, limits: lower_limits(spec) },
            beancounters: beancounters::fill(&spec.beancounters, &spec.memory),
            lifecycle,
            disk,
            namespaces,
            devices,
            network: lower_network(&spec.network),
            packages: lower_packages(&spec.packages),
            users: users::Desired { users: spec.users.iter().map(lower_user).collect() },
        }),
        _ => Err(wrong.0),
    }
}

#[derive(Default)]
struct Errors(Vec<LowerError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, why: impl ToString) {
        self.0.push(LowerError { field: field.into(), why: why.to_string() });
    }

    fn check<T, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }
}

fn millis(written: Option<v1::Duration>, default: v1::Duration) -> Millis {
    Millis(written.unwrap_or(default).millis())
}

fn lower_network(given: &v1::Network) -> network::Desired {
    let interface = |is: &v1::Interface| {
        let one = network::Interface {
            on: match (&is.parent, &is.bridge) {
                (Some(parent), _) => network::On::Parent(parent.to_string()),
                // A manifest without either is refused.
                (None, bridge) => {
                    network::On::Bridge(bridge.as_ref().map_or_else(String::new, ToString::to_string))
                }
            },
            vlan: is.vlan,
            mac: is.mac,
            host_name: is.host_name.as_ref().map(ToString::to_string),
            addresses: is.addresses.iter().copied().collect(),
            gateways: is.gateway.iter().copied().collect(),
            mtu: is.mtu,
            mac_filter: is.parent.is_none() && is.mac_filter.unwrap_or(true),
            rates: network::rate::lower(&is.rate),
        };
        (is.name.to_string(), one)
    };
    let linked = !given.addresses.is_empty() || !given.interfaces.is_empty();
    network::Desired {
        addresses: given.addresses.iter().copied().collect(),
        interfaces: given.interfaces.iter().map(interface).collect(),
        devices: given
            .devices
            .iter()
            .map(|is| (is.name.to_string(), is.rename.as_ref().unwrap_or(&is.name).to_string()))
            .collect(),
        sysctls: given
            .sysctls
            .iter()
            .map(|(name, value)| (name.to_string(), network::canonical(value)))
            .collect(),
        // Nothing goes in or out without a link.
        rates: if linked { network::rate::lower(&given.rate) } else { network::Rates::new() },
        firewall: given.firewall.as_ref().map(network::firewall::lower),
        confirm: given
            .firewall
            .as_ref()
            .and_then(|firewall| firewall.confirm)
            .map(|confirm| Millis(confirm.millis())),
        routes: given.routes.iter().map(network::Route::lower).collect(),
        rules: given.rules.iter().flat_map(network::Rule::lower).collect(),
        translations: network::translations::lower(given),
        files: network::files::lower(given),
    }
}

/// The limits of the control group, the page counters of memory among them.
fn lower_limits(spec: &VeSpec) -> cgroup::Limits {
    let counters = &spec.beancounters;
    let in_bytes = |pair: v1::Pair<v1::Pages>| match pair.limit() {
        v1::Limit::At(pages) => v1::Limit::At(pages.size()),
        v1::Limit::Unlimited => v1::Limit::Unlimited,
    };
    let mut memory = v1::Memory::clone(&spec.memory);
    memory.ram = memory.ram.or(counters.physpages.map(in_bytes));
    memory.swap = memory.swap.or(counters.swappages.map(in_bytes));
    let guaranteed = |pair: v1::Pair<v1::Pages>| pair.barrier().amount();
    let guarantees = [counters.vmguarpages, counters.oomguarpages];
    let counted = guarantees.into_iter().flatten().filter_map(guaranteed).max();
    cgroup::Limits {
        cpu: v1::Cpu::clone(&spec.cpu),
        memory,
        counted_guarantee: counted.map(v1::Pages::size),
        io: v1::Io::clone(&spec.io),
        numproc: counters.numproc,
    }
}

/// Limits and backend; the template is put in by the caller.
fn lower_disk(disk: &v1::Disk) -> disk::Desired {
    let v1::Disk { diskspace, diskinodes, quotatime, quotaugidlimit, backend, read_only, mount_options: _ } =
        disk;
    // To a quota in the kernel, nothing means no limit: the least is one.
    let blocks =
        |size: v1::Size| size.bytes().div_ceil(disk::quota::BLOCK).max(1).saturating_mul(disk::quota::BLOCK);
    let inodes = |count: v1::Count| count.get().max(1);
    let space = diskspace.map_or_else(disk::Bounds::default, |pair| disk::Bounds {
        soft: pair.barrier().amount().map(blocks),
        hard: pair.limit().amount().map(blocks),
    });
    let inodes = diskinodes.map_or_else(disk::Bounds::default, |pair| disk::Bounds {
        soft: pair.barrier().amount().map(inodes),
        hard: pair.limit().amount().map(inodes),
    });
    disk::Desired {
        backend: match backend {
            Some(v1::DiskBackend::Project) => Some(disk::Backend::Project),
            Some(v1::DiskBackend::Image) => Some(disk::Backend::Image),
            Some(v1::DiskBackend::Btrfs) => Some(disk::Backend::Btrfs),
            Some(v1::DiskBackend::Auto) | None => None,
        },
        space,
        inodes,
        grace: millis(*quotatime, v1::Duration::default()),
        read_only: read_only.unwrap_or_default(),
        users: quotaugidlimit.is_some_and(|ids| ids > 0),
        ..disk::Desired::default()
    }
}

fn lower_packages(given: &v1::Packages) -> packages::Desired {
    let v1::Packages { present, absent, upgrade } = given;
    let names = |names: &[v1::PackageName]| names.iter().map(ToString::to_string).collect();
    packages::Desired {
        present: names(present),
        absent: names(absent),
        upgrade: match upgrade {
            None | Some(v1::Upgrade::None) => None,
            Some(v1::Upgrade::Security) => Some(packages::Upgrade::Security),
            Some(v1::Upgrade::All) => Some(packages::Upgrade::All),
        },
    }
}

fn lower_user(user: &v1::User) -> (String, users::User) {
    let v1::User { name, password_hash, ssh_keys, uid, groups } = user;
    let user = users::User {
        password: password_hash.as_ref().map(ToString::to_string),
        keys: ssh_keys.iter().map(ToString::to_string).collect(),
        uid: *uid,
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    (name.to_string(), user)
}

fn lower_mount(mount: &v1::Mount) -> (String, Mount) {
    let v1::Mount { source, target, read_only, nosuid, noexec, nodev, idmap } = mount;
    let flags = MountFlags {
        read_only: read_only.unwrap_or(false),
        nosuid: nosuid.unwrap_or(true),
        noexec: noexec.unwrap_or(false),
        nodev: nodev.unwrap_or(true),
    };
    let source = source.as_str().to_owned();
    let mount = Mount { source, flags, idmap: idmap.unwrap_or(false), system: false };
    (target.as_str().to_owned(), mount)
}

fn lower_id_range(spec: &VeSpec, wrong: &mut Errors) -> Option<IdRange> {
    let v1::UserNamespace { start, size } = spec.security.user_namespace.as_ref()?;
    let count = size.unwrap_or(defaults::USER_NAMESPACE_SIZE);
    match start {
        Some(start) => Some(IdRange { start: *start, count }),
        None if count == IdRange::BLOCK => None,
        None => {
            wrong.add("spec.security.userNamespace.size", "a size of one's own needs a start");
            None
        }
    }
}
