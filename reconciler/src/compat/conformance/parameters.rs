//! What is to be said of parameters of `set` beyond what their table says: a value that each takes, units, words. Pure.

/// A value of each parameter that has a rule of its own.
pub const EXAMPLES: &[(&str, &str)] = &[
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
pub const NOTES: &[(&str, &str)] = &[
    ("mount_opts", "options of mounts (`noatime`, `nosuid`, ...), none of file systems"),
    (
        "netfilter",
        "`full` alone; no: `disabled` (without CAP_NET_ADMIN a VE has no say in its addresses either: `--capability net_admin:off`), `stateless`, \
         `stateful` (lists of modules, and the kernel keeps none for each network)",
    ),
    (
        "disabled",
        "`vzctl start` and `restart` refuse it (105), but for `--force`; orders of `vzd` and the manifest's `state` do not ask",
    ),
    (
        "features",
        "`tun`, `fuse`, `sysfs`; no: `bridge`, `sit`, `ipip`, `ipgre` (no switch is needed: they are the VE's root's to make), `nfs` (mounted by \
         the host, and named in `mounts`), `nfsd`, `ppp` (3)",
    ),
    ("cpulimit", "no: MHz (`m`), which the kernel cannot promise"),
    ("devices", "`q` is taken for nothing: quotas of a device are not a container's to manage"),
    ("diskquota", "`yes` alone; no: `no`, which is `--diskspace unlimited --diskinodes unlimited`"),
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
    ("memguarantee", "`auto` is none"),
    (
        "name",
        "all tools and `vzd` know it by that too; `--name ''` takes it back; a name that `create --name` gave is its identity, and stays known",
    ),
];

/// Units of parameters that have a rule of their own; others have those of their kind.
pub const UNITS: &[(&str, &str)] = &[
    ("ram", "bytes, `K M G T`"),
    ("swap", "bytes, `K M G T`"),
    ("vm_overcommit", "a factor"),
    ("memguarantee", "percent of RAM"),
    ("nummemorysubgroups", "a number"),
    ("cpuunits", "8 to 500000"),
    ("cpuweight", "8 to 500000"),
    ("cpulimit", "percent of one CPU; with `%`, up to 100, of all"),
    ("cpus", "a number"),
    ("cpumask", "a list of CPUs"),
    ("nodemask", "a list of nodes"),
    ("diskinodes", "a number, `soft:hard`"),
    ("quotaugidlimit", "a number of ids"),
    ("ioprio", "0 to 7"),
    ("iolimit", "MB/s, in files B/s; `B K M G`"),
    ("iopslimit", "operations a second"),
    ("rate", "Kbit/s"),
    ("bootorder", "a number"),
];
