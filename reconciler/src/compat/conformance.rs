//! What vzd makes of each command, parameter, column and exit code of OpenVZ, as docs/vzctl-conformance.md: made
//! from the tables that the tools themselves run on, so that no row is left out and none can lie. Pure.

mod parameters;
mod tools;
mod vzctl;

use std::fmt::Write as _;

use vzd_schema::edit::Change;
use vzd_schema::{Code, Kind, UpdateClass, parse, update_class};
use vzd_state::capability::Capabilities;
use vzd_state::subsystem::beancounters::{Counter, Enforcement, enforcement};

use parameters::{EXAMPLES, NOTES, UNITS};
use tools::{MIGRATE_CODES, PKG_CODES, QUOTA_CODES, SCRIPTS, TOOLS};
use vzctl::{CODES, COMMANDS, FLAGS, GLOBAL};

use super::draft::Draft;
use super::params::{Home, PARAMS, Param, Written};
use super::vzlist::columns;

const HEAD: &str = "\
<!-- Written by `cargo xtask gen` from reconciler/src/compat/conformance.rs and the tables of the tools. -->
# OpenVZ and vzd, row by row

What OpenVZ's command line has (vzctl 4.11, with what vz7 added to it), and what vzd makes of it: **same**; **better**, and how;
**differs**, and how; **counted, not refused**: what a stock kernel has no limit of ([how
close](guides/beancounters.md#how-close)); **not yet**: refused with an error until vzd carries it out; **no**: not possible, or of no use, on a stock
kernel, and refused with an error that says why. Nothing is accepted and ignored.
";

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
    table(
        "Parameters, with units, and when they are in force",
        ["option, key", "vzd"],
        &mut parameters.chain(interface_parts()),
    );
    let columns = columns::all().iter().filter(|column| column.is_whole()).map(|column| {
        let is = match column.name.as_str() {
            "laverage" => "no: the host does not know the load of a part of it; `-` and null",
            "private" => "same; what is in it is the disk as its backend keeps it, above the template",
            "root" => "same of a VE that is mounted; `/proc/PID/root` of one that runs",
            "mount_opts" | "nameserver" | "searchdomain" => {
                "same; `-` where the host's are inherited or none are given"
            }
            "vm_overcommit" => {
                "same: what `privvmpages` is of RAM and swap; `-` and 0 where one of them has no limit"
            }
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
    table("Scripts of distributions and networks", ["script", "vzd"], &mut said(SCRIPTS));
    table("Exit codes of vzpkg", ["code", "vzd"], &mut said(PKG_CODES));
    table("Exit codes of vzmigrate", ["code", "vzd"], &mut said(MIGRATE_CODES));
    table("Exit codes of vzquota", ["code", "vzd"], &mut said(QUOTA_CODES));
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
    let known = ["mac", "host_ifname", "bridge", "mac_filter", "ipadd", "ipdel", "gw", "gw6"];
    let others = [
        ("host_mac", "no: the host's end has an address that vzd makes"),
        (
            "dhcp",
            "no: whether an interface asks for addresses is the container's own to say; `no` is accepted",
        ),
        ("dhcp6", "no: likewise"),
        ("network", "no: there are no networks by name; `--bridge`"),
        ("configure", "no: interfaces are always set up from outside"),
    ];
    let known = known.into_iter().map(|part| (part, "same: `spec.network.interfaces`; live"));
    known.chain(others).map(|(part, is)| (format!("`--ifname X --{part}`"), is.to_owned()))
}

/// What the kernel does about a counter, if it has all that there is for that.
fn enforced(param: &Param) -> Option<Enforcement> {
    let (Home::Bytes(name) | Home::Pages(name) | Home::Count(name) | Home::Memory(name, _)) = param.home
    else {
        return None;
    };
    let counter = Counter::ALL.into_iter().find(|(_, known, _)| *known == name)?.0;
    Some(enforcement(counter, &Capabilities::full("page")))
}

/// What a value is a number of, where it is one.
fn unit(param: &Param) -> Option<&'static str> {
    if let Some((_, unit)) = UNITS.iter().find(|(option, _)| *option == param.option) {
        return Some(unit);
    }
    Some(match param.home {
        Home::Bytes(_) => "bytes, `barrier:limit`, `K M G T P`",
        Home::Pages(_) | Home::Memory(..) => "pages, `barrier:limit`, `K M G T` for bytes",
        Home::Count(_) => "a number, `barrier:limit`, no suffix",
        Home::Seconds(_) => "seconds",
        Home::KiB(_) => "KiB, `soft:hard`, `K M G T`",
        Home::Truth(_) => "yes or no",
        _ => return None,
    })
}

/// When a change of these fields is in force, in a container that runs.
fn in_force(fields: &[Change]) -> &'static str {
    let class = fields.iter().filter_map(|change| {
        let (Change::Set(path, _) | Change::Remove(path)) = change;
        update_class(&path.join("."))
    });
    match class.max() {
        None | Some(UpdateClass::Live | UpdateClass::Reattach) => "live",
        Some(UpdateClass::Restart) => "at the next start",
        Some(UpdateClass::Recreate) => "at creation",
    }
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
    let changed = draft.changes().iter().map(|change| {
        let (Change::Set(path, _) | Change::Remove(path)) = change;
        format!("`{}`", path.join("."))
    });
    let mut fields: Vec<String> = changed.collect();
    fields.dedup();
    let what = match enforced(param) {
        _ if !is_carried_out(&draft) => "not yet (VZ0105)",
        Some(Enforcement::Accounted(_)) => "counted, not refused",
        _ => "same",
    };
    let mut said = if fields.is_empty() { what.to_owned() } else { format!("{what}: {}", fields.join(", ")) };
    let note = NOTES.iter().find(|(option, _)| *option == param.option).map(|(_, note)| *note);
    let when = (!fields.is_empty()).then(|| in_force(draft.changes()));
    for more in [unit(param), when, note].into_iter().flatten() {
        let _ = write!(said, "; {more}");
    }
    match enforced(param) {
        Some(Enforcement::Accounted(why)) => said + "; no: " + &why,
        Some(Enforcement::Enforced(by)) => said + "; by " + &by,
        None => said,
    }
}

/// What is said of a tool other than `vzctl`.
pub fn of_tool(name: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_it = move |title: &str| title.split([',', ' ', '\'']).any(|word| word == name);
    TOOLS.iter().copied().filter(move |(title, _)| is_it(title))
}

/// A value that the parameter takes.
pub(super) fn example(param: &Param) -> &'static str {
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

    /// Each number of a list, once.
    fn counts(rows: &[(&str, &str)], expected: &str) {
        let known = rows.iter().flat_map(|(codes, _)| codes.split(", "));
        let known: Vec<u8> = known.map(|code| code.parse().unwrap()).collect();
        let expected: Vec<u8> = expected.split_whitespace().map(|code| code.parse().unwrap()).collect();
        for code in &expected {
            assert_eq!(known.iter().filter(|is| *is == code).count(), 1, "{code}");
        }
        assert_eq!(known.len(), expected.len(), "{known:?}");
    }

    #[test]
    fn no_code_is_left_out() {
        counts(
            CODES,
            "0 1 2 3 5 6 7 8 9 10 11 12 13 14 15 16 17 18 20 21 22 23 24 27 28 29 31 32 33 34 35 36 40 41 43 44 46 47 48 49 50 51 \
             52 53 54 55 60 61 62 63 64 65 66 67 68 70 71 72 73 74 77 78 79 82 85 86 87 89 91 99 100 104 105 106 107 108 109 128 129 \
             130 131 133 139 140 141 142 144 146 147 148 149 150 151 152 153 154 155 156 157 158 159 160 161 166 167",
        );
        counts(
            PKG_CODES,
            "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 \
             46 47 48 49 50 51 52 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68 69 70 72 73",
        );
        counts(
            MIGRATE_CODES,
            "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 25 26 27 29 30 31 32 33 34 35 36 37 38 39 40 41 43 45 46 48 49 52 56 57 \
             61 62 63 73 74 104",
        );
        counts(QUOTA_CODES, "0 1 2 3 4 5 6 7 8 9 10 11 12 13");
    }

    /// The names in a table of the page.
    fn rows(title: &str) -> Vec<String> {
        let page = page();
        let table =
            page.split("\n## ").find(|part| part.starts_with(title)).unwrap_or_else(|| panic!("{title}"));
        let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let names = cells.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches('`').to_owned()));
        names
            .map(|name| name.split(' ').next().unwrap_or_default().trim_start_matches("--").to_owned())
            .collect()
    }

    #[test]
    fn no_row_is_left_out() {
        for (title, names) in [
            (
                "Commands",
                "create destroy delete mount umount start stop restart status set enter exec exec2 exec3 runscript console quotaon quotaoff \
                 quotainit suspend chkpnt resume restore convert compact snapshot snapshot-switch snapshot-delete snapshot-mount \
                 snapshot-umount snapshot-list register unregister pause reinstall execaction monitor quiet verbose skiplock version help",
            ),
            (
                "What steers",
                "save force reset_ub setmode applyconfig applyconfig_map offline-resize offline root private",
            ),
            (
                "Parameters",
                "kmemsize lockedpages privvmpages shmpages numproc physpages vmguarpages oomguarpages numtcpsock numflock numpty numsiginfo \
                 tcpsndbuf tcprcvbuf othersockbuf dgramrcvbuf numothersock dcachesize numfile numiptent swappages avnumproc ram swap \
                 vm_overcommit cpuunits cpuweight cpulimit cpus cpumask nodemask diskspace diskinodes quotatime quotaugidlimit diskquota \
                 mount_opts root private ioprio iolimit iopslimit ipadd ip ipdel hostname nameserver searchdomain netif_add netif_del \
                 netdev_add netdev_del netfilter iptables features devices devnodes pci_add pci_del capability onboot bootorder name \
                 description ostemplate stop-timeout disabled userpasswd meminfo bindmount_add bindmount_del rate ratebound memguarantee \
                 numnetif ext_ipadd ext_ipdel jquota ha_enable ha_prio distribution nummemorysubgroups pagecache-isolation local_uid \
                 local_gid VE_LAYOUT ORIGIN_SAMPLE",
            ),
            (
                "Columns",
                "ctid veid vpsid private root mount_opts origin_sample hostname name smart_name description ostemplate ip nameserver \
                 searchdomain status kmemsize lockedpages privvmpages shmpages numproc physpages vmguarpages oomguarpages numtcpsock numflock \
                 numpty numsiginfo tcpsndbuf tcprcvbuf othersockbuf dgramrcvbuf numothersock dcachesize numfile numiptent swappages \
                 diskspace diskinodes laverage uptime cpulimit cpuunits cpus ioprio iolimit iopslimit onboot bootorder layout features vswap \
                 disabled vm_overcommit netfilter capability",
            ),
            (
                "Keys",
                "VIRTUOZZO LOCKDIR DUMPDIR TEMPLATE VE_ROOT VE_PRIVATE VE0CPUUNITS VE_STOP_MODE VE_PARALLEL LOGGING LOGFILE LOG_LEVEL VERBOSE \
                 DISK_QUOTA VZFASTBOOT CONFIGFILE DEF_OSTEMPLATE VE_LAYOUT NAMESERVER SEARCHDOMAIN STOP_TIMEOUT LOCAL_UID LOCAL_GID \
                 VE_ROUTE_SRC_DEV NEIGHBOUR_DEVS SKIP_ARPDETECT ERROR_ON_ARPFAIL FORCE_ROUTE SKIP_SYSCTL_SETUP MODULES_DISABLED \
                 IPTABLES_MODULES IPV6 VZWDOG ACTIONLOGDIR TRAFFIC_SHAPING BANDWIDTH TOTALRATE RATE RATEMPU GOLDEN_IMAGE VEFSTYPE \
                 VEIMAGEFORMAT USE_NET_RPS USE_VENET_MASK VZ_TOOLS_BCID VZ_TOOLS_IOLIMIT VZ_TOOLS_MEMLIMIT ON_VE_FSERROR REMOVEMIGRATED \
                 REPAIR_MODE NETFILTER VEIPDUMPDIR",
            ),
            (
                "Other tools",
                "vzlist vzubc vzmemcheck vzcalc vzcpucheck vzpid vzcfgvalidate vzcfgscale vzsplit vzquota vzpkg vzmigrate vz.conf action vz \
                 vzpkgcache vzpkgls vzpkgadd vzpkgrm vzyum vzrpm vzosname vztmpl-dl vzmlocal vzmsrc vzmtemplate vzmpipe vzmsetkey \
                 vzoversell vznetcfg vznetaddbr vzifup-post arpsend ndsend vznnc vzfsync vzcptcheck vzeventd /proc/user_beancounters /proc/bc \
                 /proc/vz /proc/fairsched",
            ),
            (
                "Scripts",
                "ADD_IP DEL_IP SET_HOSTNAME SET_DNS SET_USERPASS SET_UGID_QUOTA POST_CREATE PRE_START SET_CONSOLE ADD_NETIF DEL_NETIF \
                 osrelease.conf vps-net_add vps-net_del vps-prestart vps-netns_dev_add vps-pci vps-cpt vps-rst vps-rst-env vps-create \
                 vps-functions",
            ),
        ] {
            let known = rows(title);
            let missing: Vec<_> =
                names.split_whitespace().filter(|name| !known.iter().any(|known| known == name)).collect();
            assert!(missing.is_empty(), "{title}: {missing:?} of {known:?}");
        }
    }

    /// What OpenVZ sets in a running container, so does vzd; of what it does not, vzd may.
    #[test]
    fn what_was_live_is_live() {
        const AT_RESTART: [&str; 3] = ["capability", "mount_opts", "quotaugidlimit"];
        const AT_CREATION: [&str; 2] = ["ostemplate", "layout"];
        for param in PARAMS.iter().filter(|param| !param.option.is_empty()) {
            let verdict = verdict(param);
            if !verdict.starts_with("same: `") && !verdict.starts_with("counted") {
                continue;
            }
            let late = AT_RESTART.contains(&param.option) || AT_CREATION.contains(&param.option);
            assert_eq!(verdict.contains("; live"), !late, "{}: {verdict}", param.option);
        }
    }
}
