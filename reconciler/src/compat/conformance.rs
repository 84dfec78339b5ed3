//! What vzd makes of each command, parameter, column and exit code of OpenVZ, as docs/vzctl-conformance.md: made
//! from the tables that the tools themselves run on, so that no row is left out and none can lie. Pure.

use std::fmt::Write as _;

use vzd_schema::edit::Change;
use vzd_schema::{Code, Kind, parse};

use super::draft::Draft;
use super::params::{Home, PARAMS, Param, Written};
use super::vzlist::columns;

const HEAD: &str = "\
<!-- Written by `cargo xtask gen` from reconciler/src/compat/conformance.rs and the tables of the tools. -->
# OpenVZ and vzd, row by row

What OpenVZ's command line has (vzctl 4.11, with what vz7 added to it), and what vzd makes of it: **same**; **better**, and how;
**differs**, and how; **not yet**: refused with an error until vzd carries it out; **no**: not possible, or of no use, on a stock
kernel, and refused with an error that says why. Nothing is accepted and ignored.
";

/// Commands of vzctl.
const COMMANDS: &[(&str, &str)] = &[
    (
        "create",
        "same; the configuration is a manifest, `--config` a profile; a template that is missing is 91, none is downloaded; \
      `--layout`, `--root`, `--private`, `--local_uid`, `--local_gid` change nothing, and say so; ids up to 100 are refused",
    ),
    ("destroy, delete", "same; the manifest is renamed `*.destroyed`"),
    (
        "mount",
        "same; better: files have the owners that they have inside, what is suspended is read-only; 0 for one that runs, which is \
         mounted for itself alone",
    ),
    ("umount", "same"),
    (
        "start",
        "same; `--force` is for what is disabled; what is mounted on the host is unmounted, which `--skip-remount` does not change; `--skip-fsck` has nothing to skip; a suspended container is resumed or stays as it is",
    ),
    ("stop", "same, with `--skip-umount`; the order is kept in the manifest"),
    ("restart", "same"),
    ("status", "same, to the letter"),
    ("set", "better: checked as a whole before anything is changed, undone as a whole if a part fails"),
    (
        "set 0",
        "no: the kernel limits what is in a group, and what the host runs outside of VEs is in groups of its own init, which sets \
         their limits (`systemctl set-property system.slice CPUWeight=...`); 1 for beancounters, 2 for CPU, 148 for I/O, 21 for the rest",
    ),
    ("enter", "same"),
    ("exec", "same; a shell that is missing is 8"),
    ("exec2", "same; a shell that is missing is 127, not 47"),
    ("exec3", "same"),
    (
        "runscript",
        "same; one that is down runs for that alone, with no init of its own, and its network; then it is as it was",
    ),
    ("console", "differs: there is one console; control-] detaches"),
    ("quotaon, quotainit", "differ: a quota is always on and exact; 60 and 61 where there is none"),
    ("quotaoff", "no: 66; take the limit out of the manifest"),
    (
        "suspend, chkpnt",
        "same; `--suspend` freezes in memory, `--dump` writes down and ends it, so that `--kill` has nothing left to do; \
         `--dumpfile` gets a copy that is good for this suspension alone",
    ),
    (
        "resume, restore",
        "same; `--undump` brings it back frozen, after it has run for a moment, and `--kill` writes it down again",
    ),
    ("convert", "no: 155; there is no ploop"),
    ("compact", "same: a note and 0"),
    ("snapshot", "better: on every backend; it stands still only once, for disk and memory"),
    ("snapshot-switch", "same"),
    ("snapshot-delete", "same"),
    ("snapshot-list", "same; a snapshot has no parent"),
    (
        "snapshot-mount, snapshot-umount",
        "better: on every backend, also of a VE that runs; files have the owners that they have inside",
    ),
    (
        "register",
        "better: of what `unregister` has set aside, of any manifest, and of a private area with its `ve.conf`, whose files (`fs`) \
         are a template and stay as they are; no ploop; `--force` has nothing to force",
    ),
    (
        "unregister",
        "better: the VE goes into quarantine, from which `register` or `vzd undelete` brings it back",
    ),
    ("pause", "same"),
    (
        "reinstall",
        "better: what it had is kept as an archive of the host's, not in the container (`--skipbackup`: not at all); users and passwords \
         stay (`--resetpwdb`: not), snapshots go; `vps.configure` and `ID.configure` run inside afterwards (`--scripts`, `--skipscripts`, \
         `--listscripts`, `--desc`), 128 if one fails; 32 while it runs",
    ),
    (
        "execaction, monitor",
        "no: 20; `vzd top` and `vzd events --follow` tell, and scripts run at their moments",
    ),
    ("--quiet", "same"),
    (
        "--verbose, --skiplock",
        "accepted; there is nothing to be told or skipped: two commands never work on one VE at a time",
    ),
    ("--version, --help", "same"),
];

/// What steers `set`.
const FLAGS: &[(&str, &str)] = &[
    (
        "--save",
        "better: edits the manifest in place; `Host.manifestPolicy` may refuse it (139) or make a patch of it",
    ),
    (
        "no --save",
        "same: until the VE stops; better: told by `vzlist`, `vzd why` and `vzd describe`; 20 for what is not about a run",
    ),
    ("--force", "accepted with `--save`, as there; it forces nothing: what the kernel cannot do is an error"),
    ("--reset_ub", "same: all limits are put right"),
    ("--setmode restart", "same"),
    ("--setmode ignore", "same: 32, and nothing is saved"),
    (
        "--applyconfig NAME",
        "same: the VE gets that profile, and what its manifest says of the same itself goes; host name, addresses, template and description stay",
    ),
    ("--applyconfig_map name", "accepted: names are in manifests, and never lost"),
    ("--offline-resize", "accepted; disks are resized while they are in use"),
];

/// A value of each parameter that has a rule of its own.
const EXAMPLES: &[(&str, &str)] = &[
    ("ram", "512M"),
    ("swap", "1G"),
    ("cpulimit", "150"),
    ("cpus", "2"),
    ("cpumask", "0-1"),
    ("nodemask", "0"),
    ("diskinodes", "1000:2000"),
    ("quotaugidlimit", "100"),
    ("diskquota", "yes"),
    ("mount_opts", "noatime"),
    ("iolimit", "10"),
    ("iopslimit", "500"),
    ("ipadd", "10.0.0.5"),
    ("ip", "10.0.0.5"),
    ("ipdel", "all"),
    ("nameserver", "10.0.0.1"),
    ("searchdomain", "example.net"),
    ("netif_add", "eth0,,,,br0"),
    ("netif_del", "all"),
    ("netdev_add", "eth1"),
    ("netdev_del", "eth1"),
    ("netfilter", "full"),
    ("features", "tun:on"),
    ("devices", "c:10:229:rw"),
    ("devnodes", "fuse:rw"),
    ("capability", "sys_time:on"),
    ("bindmount_add", "/srv:/srv"),
    ("bindmount_del", "/srv"),
    ("disabled", "no"),
    ("layout", "simfs"),
    ("onboot", "yes"),
    ("hostname", "web.example.net"),
    ("description", "a note"),
    ("ostemplate", "debian-12"),
    ("name", "web"),
    ("rate", "*:1:512"),
    ("ratebound", "yes"),
    ("memguarantee", "auto"),
    ("vm_overcommit", "0"),
];

/// Words about parameters that are not wholly the same.
const NOTES: &[(&str, &str)] = &[
    ("mount_opts", "at the next start; options of mounts (`noatime`, `nosuid`, ...), none of file systems"),
    (
        "netfilter",
        "`full` alone; no: `disabled` (without CAP_NET_ADMIN a VE has no say in its addresses either: `--capability net_admin:off`), `stateless`, \
         `stateful` (lists of modules, and the kernel keeps none for each network)",
    ),
    (
        "disabled",
        "`vzctl start` and `restart` refuse it (105), but for `--force`; orders of `vzd` and the manifest's `state` do not ask",
    ),
    ("diskquota", "`yes` alone"),
    ("cpumask", "`auto` has no counterpart"),
    ("nodemask", "`auto` has no counterpart"),
    ("ipdel", "takes addresses out"),
    ("netif_del", "takes interfaces out"),
    ("netdev_del", "takes devices out"),
    ("bindmount_del", "takes mounts out"),
    ("layout", "said at creation, and of no consequence"),
    ("capability", "held until a restart, as there"),
    ("ostemplate", "an error for a VE that has a disk"),
    (
        "rate",
        "`*:1:KBITS` with `--ratebound yes`: a bound of all that it sends; a guarantee, a device of the host's (which all VEs use) and other \
         classes of addresses are refused",
    ),
    ("ratebound", "`no` takes the bound away"),
    ("vm_overcommit", "RAM and swap, times that; reckoned when it is said"),
    ("memguarantee", "percent of RAM; `auto` is none"),
    (
        "name",
        "all tools and `vzd` know it by that too; `--name ''` takes it back; a name that `create --name` gave is its identity, and stays known",
    ),
];

/// Keys of vz.conf that are not a container's.
const GLOBAL: &[(&str, &str)] = &[
    ("VIRTUOZZO", "no counterpart is needed: the controller's unit is enabled or not"),
    ("LOCKDIR", "no counterpart is needed: nobody but vzd has to know that it works on a container; 9 then"),
    ("DUMPDIR", "differs: `checkpoint.directory` of containers, and `--dumpfile` makes a copy elsewhere"),
    (
        "TEMPLATE",
        "same: an archive in its `cache` is a template where vzd has none of that name; bzip2 is not read",
    ),
    ("VE_ROOT", "same: where `vzctl mount` mounts; else below `/run/vzd/root`"),
    ("VE_PRIVATE", "no counterpart is needed: disks are in the state directory"),
    ("VE0CPUUNITS", "no, as `set 0`"),
    (
        "VE_STOP_MODE",
        "same: `shutdown` of the host's manifest, which `vzd import openvz vz.conf` writes; `stop` where nothing is said, as in VZ9",
    ),
    (
        "VE_PARALLEL",
        "differs: `startParallel` of the host's manifest, which `vzd import openvz vz.conf` writes",
    ),
    ("LOGGING, LOGFILE", "same, of `vzctl`; the controller logs to its unit's journal"),
    (
        "LOG_LEVEL, VERBOSE",
        "no counterpart is needed: there are no further levels; `VZD_LOG` is the controller's",
    ),
    ("DISK_QUOTA", "same; `yes` alone"),
    ("VZFASTBOOT", "no counterpart is needed: quotas are never initialised at boot"),
    (
        "CONFIGFILE",
        "same, of `create` without `--config`; `defaultProfile` of the host's manifest goes before",
    ),
    (
        "DEF_OSTEMPLATE",
        "same, of `create` where no profile says a template; `defaultTemplate` of the host's manifest goes before",
    ),
    (
        "VE_LAYOUT, VEFSTYPE, VEIMAGEFORMAT, GOLDEN_IMAGE",
        "no counterpart is needed: `disk.backend` of a profile",
    ),
    (
        "NAMESERVER, SEARCHDOMAIN, STOP_TIMEOUT",
        "same, as any key of a container's: in the manifest of what is created",
    ),
    ("LOCAL_UID, LOCAL_GID", "better: each VE gets a range of ids of its own, of the host's `subids`"),
    ("VE_ROUTE_SRC_DEV", "no: the source of what the host sends to VEs is its own routing's choice"),
    (
        "NEIGHBOUR_DEVS",
        "better: the wires that an address is on are found out, and followed when they change",
    ),
    (
        "SKIP_ARPDETECT, ERROR_ON_ARPFAIL",
        "better: that somebody else has an address is told, and holds nothing up: as SKIP_ARPDETECT=no, ERROR_ON_ARPFAIL=no",
    ),
    (
        "FORCE_ROUTE, SKIP_SYSCTL_SETUP, USE_VENET_MASK, USE_NET_RPS",
        "no counterpart is needed: what forwarding needs is set for VEs' links alone",
    ),
    (
        "MODULES_DISABLED, IPTABLES_MODULES",
        "no counterpart is needed: the kernel loads modules for what is asked for",
    ),
    ("IPV6", "same: always yes"),
    ("VZWDOG", "no counterpart is needed: metrics and events say more"),
    ("ACTIONLOGDIR", "better: `vzd events`"),
    ("TRAFFIC_SHAPING", "same: `no` has RATE left out"),
    ("RATE, RATEBOUND", "same, as `--rate`, where TRAFFIC_SHAPING is `yes`"),
    (
        "BANDWIDTH, TOTALRATE, RATEMPU",
        "no: what VEs have together is not bound, and frames count as they are",
    ),
    (
        "VZ_TOOLS_BCID, VZ_TOOLS_IOLIMIT, VZ_TOOLS_MEMLIMIT",
        "no: the host's own tools are in the host's groups",
    ),
    ("ON_VE_FSERROR", "no: a file system in an image is the kernel's, which makes it read-only"),
    ("REMOVEMIGRATED", "better: what has gone is kept in quarantine for its time"),
    ("REPAIR_MODE", "no counterpart is needed: what is not as it is wanted is always put right"),
    ("NETFILTER", "same: ignored with a warning"),
    (
        "any key of a container's",
        "same: in the manifest of what is created, where neither it nor its profile says it",
    ),
];

/// Exit codes of vzerror.h, and when vzctl of vzd ends with them.
const CODES: &[(&str, &str)] = &[
    ("0", "same"),
    ("1", "same"),
    ("2", "same"),
    ("3", "same; also what has no other code"),
    ("5", "no: the kernel is stock"),
    ("6", "no: 7"),
    ("7", "same"),
    ("8", "same"),
    ("9", "same"),
    ("10", "no: no file is needed"),
    ("11", "same"),
    ("12", "no: 3"),
    ("13", "no: 3"),
    ("14", "same"),
    ("15", "no: nothing runs for vzctl inside"),
    ("16", "same"),
    ("17", "same"),
    ("18", "no"),
    ("20", "same"),
    ("21", "same"),
    ("22, 23, 24, 27, 28, 29", "no: all have defaults"),
    ("31", "same"),
    ("32", "same"),
    ("33", "same"),
    ("34", "same"),
    ("35, 36", "no: a manifest that does not fit is 21 (VZ0119)"),
    ("40", "same"),
    ("41", "same"),
    ("43", "no: a disk is made when it is missing"),
    ("44", "same"),
    ("46", "no: 7"),
    ("47", "no: 127"),
    ("48, 49", "no: 7"),
    ("50, 51", "same"),
    ("52", "same"),
    ("53, 54, 55", "no: 7 or 62"),
    ("60, 61, 62", "same"),
    ("63, 64", "no: no limit is a limit that is not written"),
    ("65", "same"),
    ("67, 68", "no: such a quota is always initialised, and what is used can be read: 65"),
    ("66", "same"),
    ("70", "same, or 21"),
    ("71", "no: 21"),
    ("72, 73", "same, or 21"),
    ("74", "same; also where the manifest says the user's password"),
    ("77", "no: no setting is needed"),
    ("78", "same"),
    ("79", "same, of a start that a script refuses"),
    ("82", "same"),
    ("85", "no: 21"),
    ("86", "same"),
    ("87", "no: there are no application templates"),
    ("89", "no: 34"),
    ("91", "same"),
    ("99", "no: there is no ploop"),
    ("100", "no"),
    ("104", "same"),
    ("105", "same"),
    ("106", "no: it can be"),
    ("107, 108", "no: there are no distribution scripts"),
    ("109", "same"),
    ("128", "same"),
    ("129", "no: meminfo is always the VE's own"),
    ("130", "same"),
    ("131", "same"),
    ("133", "same"),
    ("139", "same"),
    ("140", "same"),
    ("141", "no"),
    ("142", "same"),
    ("144", "no: the kernel's release is the host's"),
    ("146, 149", "no: 2"),
    ("147", "no: 21"),
    ("148", "same"),
    ("150, 151, 152, 153, 154", "no: there is no ploop"),
    ("155", "`convert`: always"),
    ("156, 158, 159", "same"),
    ("157", "no: snapshots are copies, nothing is merged"),
    ("160, 161", "same"),
    ("166", "no: `compact` has nothing to do"),
    ("167", "same"),
];

/// Everything else.
const TOOLS: &[(&str, &str)] = &[
    (
        "vzlist",
        "same options (-a -S -H -t -n -N -d -h -o -s -j -l -1 -L), table and JSON; better: JSON is escaped, `.b` and `.l` sort by \
      themselves, both directions are stable",
    ),
    ("vzubc", "same options"),
    ("vzmemcheck, vzcalc, vzcpucheck", "same formulas, of running VEs; what has no limit is `unlimited`"),
    ("vzpid", "same"),
    (
        "vzcfgvalidate",
        "same options, rules, repair and codes; the rules are those of manifests too (VZ0119): `vzd validate`",
    ),
    ("vzcfgscale", "same options"),
    (
        "vzsplit",
        "same options; with `-v no` all counters, which fit each other and the host; `-f` makes a profile",
    ),
    (
        "vzquota",
        "`stat`, `show`: same table; a quota is always on: 5 for `on`, `init`; no: 1 for the rest; 6 for a VE that is down, 11 where there is none",
    ),
    (
        "vzpkg list, info, status",
        "same, of templates and containers: `-p`, `-O`, `-c`, `--available`; codes 15, 16, 22 (not up to date), 23, 24, 26",
    ),
    (
        "vzpkg create, update, remove cache",
        "same, by recipes (`vzpkg list --available`): 29, 23, 24; `remove cache` wants names, and refuses what manifests name",
    ),
    (
        "vzpkg install, remove, update, localinstall, localupdate",
        "same with `-p`, by the container's own package manager: 70 if it fails, 73 if there is none, 15 if the container is down; what \
      its manifest says otherwise is refused (35)",
    ),
    (
        "vzpkg upgrade",
        "same, of Debian, Alpine and Fedora: sources are put back if they do not have the next release; 24 where none is known; \
         `upgrade area` is refused (35): other releases are templates of their own",
    ),
    (
        "vzpkg of several containers",
        "better: numbers with commas, or `--all` for those that run; one that fails keeps no other",
    ),
    (
        "vzpkg clean, update metadata, link",
        "same: a note and 0; nothing is kept between builds, and files of templates are always shared",
    ),
    (
        "vzpkg fetch, appcache, template, create image",
        "no: 35; `create cache` fetches what it needs, there are no application templates and no ploop",
    ),
    (
        "vzpkg's other options",
        "`-q`, `-d`: same; no: 35 for the others, which steer yum and caches that are not there",
    ),
    (
        "vzmigrate",
        "same: `--ssh`, `--live`, `--check-only`, `-f` (processors are not compared; what else stands in the way would be met later, with the \
         container down, and is always asked), `-t`, several containers; better: what runs goes on even without `--live`, and what is left \
         is kept in quarantine (`-r` changes nothing); codes 1, 2 (`--live` of what does not run), 4, 6, 8, 9, 10, 12, 14 (no \
         vzd there), 15 to 18, 20, and 7 for whatever else stands in the way, told in words; 13 and 19 are of things that are not there; \
         no: 1 for `--rsync` (there is none), `--keep-dst` (nothing \
         could go on from what is left of a failed one)",
    ),
    (
        "vz.conf",
        "`vzctl` reads it each time, for what is [above](#keys-of-vzconf); `vzd import openvz /etc/vz/vz.conf` makes a `kind: Host` of it, and tells of each key where its place is",
    ),
    (
        "CTID.conf, ve-NAME.conf-sample",
        "same of samples: `--config NAME` makes a profile of the host's or OpenVZ's own, once; `vzd import openvz` makes manifests and profiles of all of them, with files of `--private DIR` as templates, in place, or with `--copy` as the VE's own, with shifted ids; `--verify` proves that they say the same; `vzd export` makes one of a VE",
    ),
    (
        "action scripts",
        "same names, order and environment (`VEID`, `VE_CONFFILE`), also without vzctl; differs: at a start `mount` mounts for the VE alone, \
      `umount` and `stop` hold up no stop",
    ),
    (
        "/proc/user_beancounters",
        "same format, to the letter, true when it is read: `/dev/vzd/user_beancounters` in a VE, of itself; `/run/vzd/user_beancounters` on the \
         host, of all; no: at that path, since nothing can be put into procfs, and overlayfs does not lie over it (EINVAL, \"maximum fs stacking \
         depth exceeded\")",
    ),
    (
        "/proc/bc, /proc/vz, /proc/fairsched",
        "no: nothing can be put into procfs; `vzubc`, `vzlist`, `vzquota show`, `vzd get -o json` and metrics tell the same",
    ),
    ("vzeventd", "better: the controller is told by the kernel, and restarts what was rebooted"),
];

/// What is a command of vzctl, by all its names.
pub fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMMANDS.iter().copied().filter(|(name, _)| !name.starts_with("--"))
}

/// Exit codes of vzctl, with what is to be said of each.
pub fn codes() -> impl Iterator<Item = (&'static str, &'static str)> {
    CODES.iter().copied()
}

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut table = |title: &str, head: [&str; 2], rows: &mut dyn Iterator<Item = (String, String)>| {
        let _ = write!(page, "\n## {title}\n\n| {} | {} |\n|---|---|\n", head[0], head[1]);
        rows.for_each(|(name, is)| {
            let _ = writeln!(page, "| {name} | {is} |");
        });
    };
    let said = |rows: &[(&str, &str)]| {
        let rows: Vec<_> = rows.iter().map(|(name, is)| (format!("`{name}`"), (*is).to_owned())).collect();
        rows.into_iter()
    };
    table("Commands of vzctl", ["command", "vzd"], &mut said(COMMANDS));
    table("What steers `vzctl set`", ["option", "vzd"], &mut said(FLAGS));
    let parameters = PARAMS.iter().map(|param| (names(param), verdict(param)));
    table("Parameters", ["option, key", "vzd"], &mut parameters.chain(interface_parts()));
    let columns = columns::all().iter().filter(|column| column.is_whole()).map(|column| {
        let is = match column.name.as_str() {
            "laverage" => "no: the host does not know the load of a part of it; `-` and null",
            "private" => "same; what is in it is the disk as its backend keeps it, above the template",
            "root" => "same of a VE that is mounted; `/proc/PID/root` of one that runs",
            "mount_opts" | "nameserver" | "searchdomain" => {
                "same; `-` where the host's are inherited or none are given"
            }
            "vm_overcommit" => "no: `-` and 0",
            "netfilter" => "same: always `full`",
            "layout" => "same: `ploop` is a disk in an image, `simfs` any other",
            _ => "same",
        };
        (format!("`{}`", column.name), is.to_owned())
    });
    table("Columns of vzlist", ["column, with all its suffixes", "vzd"], &mut columns.into_iter());
    table("Keys of vz.conf", ["key", "vzd"], &mut said(GLOBAL));
    table("Exit codes of vzctl", ["code", "vzd"], &mut said(CODES));
    table("Other tools and files", ["tool", "vzd"], &mut said(TOOLS));
    page
}

fn names(param: &Param) -> String {
    match (param.option, param.key) {
        ("", key) => format!("`{key}`"),
        (option, "") => format!("`--{option}`"),
        (option, key) => format!("`--{option}`, `{key}`"),
    }
}

/// Parts of one interface, which `--ifname` names.
fn interface_parts() -> impl Iterator<Item = (String, String)> {
    ["mac", "host_ifname", "bridge", "mac_filter"]
        .into_iter()
        .map(|part| (format!("`--ifname X --{part}`"), "same: `spec.network.interfaces`".to_owned()))
        .chain([(
            "`--ifname X --host_mac`".to_owned(),
            "no: the host's end has an address that vzd makes".to_owned(),
        )])
}

/// What becomes of a parameter.
pub fn verdict(param: &Param) -> String {
    match param.home {
        Home::Inside(why) => return format!("same: {why}"),
        Home::Nowhere(why) => return format!("no ({}): {why}", super::exit::BAD_VALUE),
        Home::Needless(why) => return format!("no counterpart is needed: {why}"),
        _ => {}
    }
    let mut draft = Draft::default();
    let example = example(param);
    if let Err(why) = param.put(&mut draft, example, Written::Option) {
        return format!("no: {why}");
    }
    let mut fields: Vec<String> = draft
        .changes()
        .iter()
        .map(|change| match change {
            Change::Set(path, _) | Change::Remove(path) => format!("`{}`", path.join(".")),
        })
        .collect();
    fields.dedup();
    let what = if is_carried_out(&draft) { "same" } else { "not yet (VZ0105)" };
    let note = NOTES.iter().find(|(option, _)| *option == param.option).map(|(_, note)| format!("; {note}"));
    match fields.as_slice() {
        [] => format!("{what}{}", note.unwrap_or_default()),
        fields => format!("{what}: {}{}", fields.join(", "), note.unwrap_or_default()),
    }
}

/// What is said of a tool other than `vzctl`.
pub fn of_tool(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_it = move |title: &str| title.split([',', ' ', '\'']).any(|word| word == name);
    TOOLS.iter().copied().filter(move |(title, _)| is_it(title))
}

/// A value that the parameter takes.
fn example(param: &Param) -> &'static str {
    if let Some((_, value)) = EXAMPLES.iter().find(|(option, _)| *option == param.option) {
        return value;
    }
    match param.home {
        Home::Memory(..) => "0:65536",
        Home::KiB(_) => "1048576:1153434",
        Home::Truth(_) => "yes",
        _ => "7",
    }
}

fn is_carried_out(draft: &Draft) -> bool {
    let text = draft.document(Kind::Ve, "web");
    !parse("page", text.as_bytes()).diagnostics.iter().any(|is| is.code == Code::NotCarriedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_takes_its_example() {
        for param in PARAMS
            .iter()
            .filter(|param| !matches!(param.home, Home::Inside(_) | Home::Nowhere(_) | Home::Needless(_)))
        {
            let put = param.put(&mut Draft::default(), example(param), Written::Option);
            // What takes something away says that it is not there.
            assert!(put.is_ok() || param.option.ends_with("_del"), "{}: {put:?}", param.option);
        }
    }

    #[test]
    fn no_code_is_left_out() {
        let known: Vec<u8> =
            CODES.iter().flat_map(|(codes, _)| codes.split(", ")).map(|code| code.parse().unwrap()).collect();
        let header = "0 1 2 3 5 6 7 8 9 10 11 12 13 14 15 16 17 18 20 21 22 23 24 27 28 29 31 32 33 34 35 36 40 41 43 44 46 47 48 49 50 51 \
            52 53 54 55 60 61 62 63 64 65 66 67 68 70 71 72 73 74 77 78 79 82 85 86 87 89 91 99 100 104 105 106 107 108 109 128 129 \
            130 131 133 139 140 141 142 144 146 147 148 149 150 151 152 153 154 155 156 157 158 159 160 161 166 167";
        for code in header.split_whitespace().map(|code| code.parse::<u8>().unwrap()) {
            assert_eq!(known.iter().filter(|is| **is == code).count(), 1, "{code}");
        }
    }
}
