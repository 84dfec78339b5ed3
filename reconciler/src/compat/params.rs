//! Every parameter of `vzctl set` and every key of a container's configuration: where its value lives in a
//! manifest, in which unit it is written, and with which code `vzctl` ends when it cannot be set. Pure.
//!
//! Both ways share one table: `vzctl set --numproc 240` and `NUMPROC="240"` in a file are the same wish. What
//! has no home is told, with the reason; a field that vzd does not carry out yet is refused by the manifest
//! itself (VZ0105), so that this table stays as it is when it comes to be carried out.

mod lists;
mod memory;
pub mod rate;

pub use lists::netif_change;

use vzd_schema::edit::Value;
use vzd_schema::v1::scalars::{ByteRate, Count, Limit, Pages, Pair, Percent, Size};
use vzd_schema::v1::{ALIAS, DISABLED, is_alias};

use super::draft::Draft;
use super::exit;

/// Where a value was written: units differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Behind an option of a command.
    Option,
    /// In a configuration file.
    File,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The option, without dashes.
    pub option: &'static str,
    /// The key in a configuration file; empty where there is none.
    pub key: &'static str,
    /// What becomes of its value.
    pub home: Home,
    /// How `vzctl` ends when it cannot be set.
    pub exit: u8,
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy)]
pub enum Home {
    /// A counter in bytes, with its field.
    Bytes(&'static str),
    /// A counter in pages.
    Pages(&'static str),
    /// A counter of things.
    Count(&'static str),
    /// RAM or swap: the counter in pages, and the field that says the same.
    Memory(&'static str, &'static str),
    /// A text as it is.
    Text(&'static str),
    /// A number or word as it is.
    Word(&'static str),
    /// `yes` or `no`.
    Truth(&'static str),
    /// Seconds.
    Seconds(&'static str),
    /// Disk space: a bare number is KiB.
    KiB(&'static str),
    /// Whatever else: how it changes the draft.
    Own(fn(&mut Draft, &str, Written) -> Result<(), String>),
    /// Not in the manifest but in the running container: what becomes of it there.
    Inside(&'static str),
    /// It has none, and why.
    Nowhere(&'static str),
    /// It has none, and nothing is lost by that: why.
    Needless(&'static str),
}

macro_rules! params {
    ($($option:literal $key:literal $exit:ident $home:expr;)*) => {
        &[$(Param { option: $option, key: $key, home: { use Home::*; $home }, exit: exit::$exit }),*]
    };
}

/// All of them.
pub const PARAMS: &[Param] = params! {
    "kmemsize" "KMEMSIZE" SET_UBC Bytes("kmemsize");
    "lockedpages" "LOCKEDPAGES" SET_UBC Pages("lockedpages");
    "privvmpages" "PRIVVMPAGES" SET_UBC Pages("privvmpages");
    "shmpages" "SHMPAGES" SET_UBC Pages("shmpages");
    "numproc" "NUMPROC" SET_UBC Count("numproc");
    "physpages" "PHYSPAGES" SET_UBC Memory("physpages", "spec.memory.ram");
    "vmguarpages" "VMGUARPAGES" SET_UBC Pages("vmguarpages");
    "oomguarpages" "OOMGUARPAGES" SET_UBC Pages("oomguarpages");
    "numtcpsock" "NUMTCPSOCK" SET_UBC Count("numtcpsock");
    "numflock" "NUMFLOCK" SET_UBC Count("numflock");
    "numpty" "NUMPTY" SET_UBC Count("numpty");
    "numsiginfo" "NUMSIGINFO" SET_UBC Count("numsiginfo");
    "tcpsndbuf" "TCPSNDBUF" SET_UBC Bytes("tcpsndbuf");
    "tcprcvbuf" "TCPRCVBUF" SET_UBC Bytes("tcprcvbuf");
    "othersockbuf" "OTHERSOCKBUF" SET_UBC Bytes("othersockbuf");
    "dgramrcvbuf" "DGRAMRCVBUF" SET_UBC Bytes("dgramrcvbuf");
    "numothersock" "NUMOTHERSOCK" SET_UBC Count("numothersock");
    "dcachesize" "DCACHESIZE" SET_UBC Bytes("dcachesize");
    "numfile" "NUMFILE" SET_UBC Count("numfile");
    "numiptent" "NUMIPTENT" SET_UBC Count("numiptent");
    "swappages" "SWAPPAGES" SET_UBC Memory("swappages", "spec.memory.swap");
    "avnumproc" "AVNUMPROC" SET_UBC Needless("only OpenVZ's own checks read it; vzd takes half of numproc");
    "ram" "" SET_UBC Own(ram);
    "swap" "" SET_UBC Own(swap);
    "vm_overcommit" "VM_OVERCOMMIT" SET_UBC Own(memory::vm_overcommit);
    "meminfo" "MEMINFO" SYSTEM Nowhere("a VE is always shown its own limits");
    "memguarantee" "MEMGUARANTEE" SET_UBC Own(memory::memguarantee);
    "pagecache-isolation" "PAGECACHE_ISOLATION" SET_UBC Needless("page cache is always the VE's own");
    "nummemorysubgroups" "NUMMEMORYSUBGROUPS" SET_UBC Word("spec.memory.subgroups");

    "cpuunits" "CPUUNITS" SET_CPU Word("spec.cpu.cpuunits");
    "cpuweight" "CPUUWEIGHT" SET_CPU Word("spec.cpu.cpuunits");
    "cpulimit" "CPULIMIT" SET_CPU Own(cpulimit);
    "cpus" "CPUS" SET_CPU Own(cpus);
    "cpumask" "CPUMASK" SET_CPU Own(cpumask);
    "nodemask" "NODEMASK" SET_CPU Own(nodemask);

    "diskspace" "DISKSPACE" QUOTA KiB("spec.disk.diskspace");
    "diskinodes" "DISKINODES" QUOTA Own(diskinodes);
    "quotatime" "QUOTATIME" QUOTA Seconds("spec.disk.quotatime");
    "quotaugidlimit" "QUOTAUGIDLIMIT" UGID_QUOTA Own(quotaugidlimit);
    "diskquota" "DISK_QUOTA" QUOTA Own(diskquota);
    "jquota" "JOURNALED_QUOTA" QUOTA Nowhere("quotas are always consistent");
    "mount_opts" "MOUNT_OPTS" SYSTEM Own(lists::mount_opts);
    "root" "VE_ROOT" SYSTEM Needless("a VE's root is mounted in its own mount namespace; `vzctl mount` mounts where vz.conf says");
    "private" "VE_PRIVATE" SYSTEM Needless("vzd keeps disks in its state directory");
    "ioprio" "IOPRIO" IO Word("spec.io.ioprio");
    "iolimit" "IOLIMIT" IO Own(iolimit);
    "iopslimit" "IOPSLIMIT" IO Own(iopslimit);

    "ipadd" "IP_ADDRESS" ADDRESS Own(lists::ipadd);
    "ip" "" ADDRESS Own(lists::ipadd);
    "ipdel" "" ADDRESS Own(lists::ipdel);
    "ext_ipadd" "EXT_IP_ADDRESS" ADDRESS Nowhere("say it in network.addresses");
    "ext_ipdel" "" ADDRESS Nowhere("say it in network.addresses");
    "hostname" "HOSTNAME" HOSTNAME Text("spec.hostname");
    "nameserver" "NAMESERVER" NAMESERVER Own(lists::nameserver);
    "searchdomain" "SEARCHDOMAIN" SEARCHDOMAIN Own(lists::searchdomain);
    "netif_add" "NETIF" VETH Own(lists::netif_add);
    "netif_del" "" VETH Own(lists::netif_del);
    "netdev_add" "NETDEV" NETDEV Own(lists::netdev_add);
    "netdev_del" "" NETDEV Own(lists::netdev_del);
    "netfilter" "NETFILTER" SYSTEM Own(netfilter);
    "iptables" "IPTABLES" SYSTEM Nowhere("a VE has the whole packet filter of its own network");
    "rate" "RATE" SYSTEM Own(rate::rate);
    "ratebound" "RATEBOUND" SYSTEM Own(rate::ratebound);
    "numnetif" "NUMNETIF" SYSTEM Nowhere("the kernel bounds no number of interfaces of a network namespace; each counts as the VE's memory");

    "features" "FEATURES" SYSTEM Own(lists::features);
    "devices" "DEVICES" DEVICES Own(lists::devices);
    "devnodes" "DEVNODES" DEVICES Own(lists::devnodes);
    "pci_add" "PCI" DEVICES Nowhere("the kernel gives no PCI device to a container: give the interface (--netdev_add) or the nodes (--devnodes) that its driver makes");
    "pci_del" "" DEVICES Nowhere("the kernel gives no PCI device to a container: give the interface (--netdev_add) or the nodes (--devnodes) that its driver makes");
    "capability" "CAPABILITY" SYSTEM Own(lists::capability);
    "bindmount_add" "BINDMOUNT" SYSTEM Own(lists::bindmount_add);
    "bindmount_del" "" SYSTEM Own(lists::bindmount_del);

    "onboot" "ONBOOT" SYSTEM Truth("spec.onBoot");
    "bootorder" "BOOTORDER" SYSTEM Word("spec.bootOrder");
    "description" "DESCRIPTION" SYSTEM Text("spec.description");
    "stop-timeout" "STOP_TIMEOUT" SYSTEM Seconds("spec.stopTimeout");
    "ostemplate" "OSTEMPLATE" SYSTEM Text("spec.template");
    "name" "NAME" NAME Own(name);
    "disabled" "DISABLED" SYSTEM Own(disabled);
    "userpasswd" "" PASSWORD Inside("its own `chpasswd` sets it; one that is down runs for that alone; `users` of the manifest has hashes");
    "distribution" "DISTRIBUTION" SYSTEM Needless("vzd finds it out from the template");
    "ha_enable" "HA_ENABLE" SYSTEM Nowhere("there is no cluster");
    "ha_prio" "HA_PRIO" SYSTEM Nowhere("there is no cluster");
    "local_uid" "LOCAL_UID" SYSTEM Needless("each VE gets a range of ids of its own");
    "local_gid" "LOCAL_GID" SYSTEM Needless("each VE gets a range of ids of its own");
    "layout" "VE_LAYOUT" SYSTEM Own(layout);
    "" "ORIGIN_SAMPLE" SYSTEM Needless("it says only which sample the numbers came from");
    "" "CLASSID" SYSTEM Needless("it is an internal number of OpenVZ");
    "" "UUID" SYSTEM Needless("vzd gives identities of its own");
    "" "VEID" SYSTEM Needless("it is the name of the file once more");
};

/// Keys that older files have for the same.
pub const ALIASES: &[(&str, &str)] =
    &[("DCACHE", "DCACHESIZE"), ("IPTENTRIES", "NUMIPTENT"), ("VETH", "NETIF"), ("CPUWEIGHT", "CPUUWEIGHT")];

/// The parameter of an option.
pub fn by_option(option: &str) -> Option<&'static Param> {
    PARAMS.iter().find(|param| !option.is_empty() && param.option == option)
}

/// Whether it is reckoned from others, which have to be known before.
pub fn is_reckoned(option: &str) -> bool {
    matches!(option, "vm_overcommit" | "memguarantee")
}

/// The parameter of a key.
pub fn by_key(key: &str) -> Option<&'static Param> {
    let key = ALIASES.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new);
    PARAMS.iter().find(|param| !key.is_empty() && param.key == key)
}

impl Param {
    /// Says it in the draft.
    ///
    /// # Errors
    ///
    /// The value is no value of the parameter, or has no home; in words.
    pub fn put(&self, draft: &mut Draft, value: &str, written: Written) -> Result<(), String> {
        let counter = |name: &str| format!("spec.beancounters.{name}");
        match self.home {
            Home::Bytes(name) => pair::<Size>(value).map(|text| draft.set(&counter(name), Value::Word(text))),
            Home::Pages(name) => {
                pair::<Pages>(value).map(|text| draft.set(&counter(name), Value::Word(text)))
            }
            Home::Count(name) => {
                pair::<Count>(value).map(|text| draft.set(&counter(name), Value::Word(text)))
            }
            Home::Memory(name, field) => memory(draft, name, field, value),
            Home::Text(field) => {
                draft.set(field, Value::Text(value.to_owned()));
                Ok(())
            }
            Home::Word(field) => {
                draft.set(field, Value::word(value));
                Ok(())
            }
            Home::Truth(field) => truth(value).map(|is| draft.set(field, Value::word(is))),
            Home::Seconds(field) => {
                let seconds: u64 = value.parse().map_err(|_| format!("`{value}` is no number of seconds"))?;
                draft.set(field, Value::word(format!("{seconds}s")));
                Ok(())
            }
            Home::KiB(field) => kib(value).map(|text| draft.set(field, Value::Word(text))),
            Home::Own(own) => own(draft, value, written),
            Home::Inside(why) => Err(format!("it is not in the manifest: {why}")),
            Home::Nowhere(why) | Home::Needless(why) => Err(format!("it has no counterpart: {why}")),
        }
    }
}

fn pair<T: vzd_schema::v1::scalars::Amount>(value: &str) -> Result<String, String> {
    let pair: Pair<T> =
        value.parse().map_err(|wrong: vzd_schema::v1::scalars::ScalarError| wrong.to_string())?;
    Ok(pair.to_string())
}

/// A name beside the one that is its identity.
fn name(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    let field = format!("metadata.annotations.{ALIAS}");
    match value {
        "" => draft.remove(&field),
        _ if is_alias(value) => draft.set(&field, Value::Text(value.to_owned())),
        _ => {
            return Err(format!(
                "`{value}` is no name: letters, digits, space and -+_. make one, and no number"
            ));
        }
    }
    Ok(())
}

fn truth(value: &str) -> Result<bool, String> {
    match value {
        "yes" | "on" => Ok(true),
        "no" | "off" => Ok(false),
        _ => Err(format!("`{value}` is neither yes nor no")),
    }
}

/// A limit of RAM or swap in pages, where the manifest says it already: as the counter, or in bytes.
fn memory(draft: &mut Draft, name: &str, field: &str, value: &str) -> Result<(), String> {
    let pages: Pair<Pages> = value.parse().map_err(|wrong| format!("{wrong}"))?;
    let counter = format!("spec.beancounters.{name}");
    if draft.get(field).is_some() && draft.get(&counter).is_none() {
        let limit = match pages.limit() {
            Limit::At(pages) => pages.size().to_string(),
            Limit::Unlimited => "unlimited".to_owned(),
        };
        draft.set(field, Value::Word(limit));
    } else {
        draft.set(&counter, Value::word(pages));
    }
    Ok(())
}

fn bytes_of(draft: &mut Draft, name: &str, field: &str, value: &str) -> Result<(), String> {
    let size: Limit<Size> = value.parse().map_err(|wrong| format!("{wrong}"))?;
    let counter = format!("spec.beancounters.{name}");
    if draft.get(&counter).is_some() {
        let pages = match size {
            Limit::At(size) => Pages::of(size).to_string(),
            Limit::Unlimited => "unlimited".to_owned(),
        };
        draft.set(&counter, Value::Word(format!("0:{pages}")));
    } else {
        draft.set(field, Value::word(size));
    }
    Ok(())
}

fn ram(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    bytes_of(draft, "physpages", "spec.memory.ram", value)
}

fn swap(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    bytes_of(draft, "swappages", "spec.memory.swap", value)
}

/// Percent of one CPU; with a sign and up to 100, of all of the host's.
fn cpulimit(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    if value.ends_with(['m', 'M']) {
        return Err("MHz have no counterpart: give percent of one CPU".to_owned());
    }
    let number = value.strip_suffix('%').unwrap_or(value);
    let percent: Percent = number.parse().map_err(|wrong| format!("{wrong}"))?;
    let of_all = value.ends_with('%') && percent.hundredths() <= 10_000;
    let hundredths =
        if of_all { percent.hundredths().saturating_mul(host_cpus()) } else { percent.hundredths() };
    let text = match hundredths {
        0 => "unlimited".to_owned(),
        _ => format!("{}%", Percent::from_hundredths(hundredths).to_string().trim_end_matches('%')),
    };
    draft.set("spec.cpu.cpulimit", Value::Word(text));
    Ok(())
}

fn host_cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

fn cpus(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    match value {
        "0" | "unlimited" => draft.remove("spec.cpu.cpus"),
        _ => draft.set("spec.cpu.cpus", Value::word(value)),
    }
    Ok(())
}

fn cpumask(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    mask(draft, "spec.cpu.cpumask", value)
}

fn nodemask(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    mask(draft, "spec.cpu.nodemask", value)
}

fn mask(draft: &mut Draft, field: &str, value: &str) -> Result<(), String> {
    match value {
        "all" => draft.remove(field),
        "auto" => return Err("`auto` has no counterpart: name the CPUs".to_owned()),
        _ => draft.set(field, Value::word(value)),
    }
    Ok(())
}

fn kib(value: &str) -> Result<String, String> {
    let part = |part: &str| {
        let bare = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if bare && part != "9223372036854775807" { format!("{part}K") } else { part.to_owned() }
    };
    let text = value.split(':').map(part).collect::<Vec<_>>().join(":");
    pair::<Size>(&text)
}

fn diskinodes(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    pair::<Count>(value).map(|text| draft.set("spec.disk.diskinodes", Value::Word(text)))
}

fn quotaugidlimit(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    if value == "0" {
        draft.remove("spec.disk.quotaugidlimit");
    } else {
        draft.set("spec.disk.quotaugidlimit", Value::word(value));
    }
    Ok(())
}

fn diskquota(_: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    if truth(value)? {
        Ok(())
    } else {
        Err("a quota is taken off by `--diskspace unlimited --diskinodes unlimited`".to_owned())
    }
}

/// On the command line MB/s, in files bytes.
fn iolimit(draft: &mut Draft, value: &str, written: Written) -> Result<(), String> {
    let bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let text = match value {
        "0" => "unlimited".to_owned(),
        _ if bare && written == Written::Option => format!("{value}M"),
        _ => value.to_owned(),
    };
    let limit: Limit<ByteRate> = text.parse().map_err(|wrong| format!("{wrong}"))?;
    draft.set("spec.io.iolimit", Value::word(limit));
    Ok(())
}

fn iopslimit(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    let text = if value == "0" { "unlimited" } else { value };
    draft.set("spec.io.iopslimit", Value::word(text));
    Ok(())
}

/// A VE has a whole network of its own, with the whole packet filter.
fn netfilter(_: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    match value {
        "full" => Ok(()),
        "disabled" => {
            Err("the kernel gives a network to a VE with its packet filter, or with no say in it at all: \
                           `--capability net_admin:off` takes addresses and routes out of its hands too"
                .to_owned())
        }
        "stateless" | "stateful" => Err(format!(
            "`{value}` is a list of modules, and the kernel keeps none for each network: what is loaded, all may use (`full`)"
        )),
        _ => Err(format!("`{value}` is none of disabled, stateless, stateful, full")),
    }
}

fn disabled(draft: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    let field = format!("metadata.annotations.{DISABLED}");
    match truth(value)? {
        true => draft.set(&field, Value::Text("yes".to_owned())),
        false => draft.remove(&field),
    }
    Ok(())
}

fn layout(_: &mut Draft, value: &str, _: Written) -> Result<(), String> {
    match value.split(':').next() {
        Some("simfs" | "ploop") => Ok(()),
        _ => Err(format!("`{value}` is neither simfs nor ploop")),
    }
}
