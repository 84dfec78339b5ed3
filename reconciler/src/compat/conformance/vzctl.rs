//! What is to be said of `vzctl`: its commands, what steers `set`, its exit codes, keys of vz.conf. Pure.

/// Commands of vzctl.
pub const COMMANDS: &[(&str, &str)] = &[
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
    (
        "set",
        "better: checked as a whole before anything is changed, undone as a whole if a part fails; 14 for one that is not there",
    ),
    (
        "set 0",
        "no: the kernel limits what is in a group, and what the host runs outside of VEs is in groups of its own init, which sets \
         their limits (`systemctl set-property system.slice CPUWeight=...`); 1 for beancounters, 2 for CPU, 148 for I/O, 21 for the rest",
    ),
    ("enter", "same"),
    ("exec", "same"),
    ("exec2", "same"),
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
    ("compact", "same: a note and 0; so with `--defrag`, `--dry`, `--threshold`, `--delta`"),
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
    ("unique prefixes of options", "same"),
    (
        "CTID, name",
        "same: 0 to 2147483644, or a name; no: a UUID in the place of a number, as vz7 has them (names may look so)",
    ),
];

/// What steers `set`.
pub const FLAGS: &[(&str, &str)] = &[
    (
        "--save",
        "better: edits the manifest in place; `Host.manifestPolicy` may refuse it (139) or make a patch of it",
    ),
    (
        "no --save",
        "same: until the VE stops; better: told by `vzlist`, `vzd why` and `vzd describe`; 20 for what is not about a run",
    ),
    (
        "parameters that need --save",
        "same: `--name` (131 without), `--ostemplate`, `--stop-timeout` and what else is not about a run (20); better: `--diskspace` does not",
    ),
    ("--root, --private of one that runs", "same: 32"),
    ("--force", "accepted with `--save`, as there; it forces nothing: what the kernel cannot do is an error"),
    ("--reset_ub", "same: all limits are put right"),
    ("--setmode restart", "same"),
    ("--setmode ignore", "same: 32, and nothing is saved"),
    (
        "--applyconfig NAME",
        "same: the VE gets that profile, and what its manifest says of the same itself goes; host name, addresses, template and description stay",
    ),
    ("--applyconfig_map name", "accepted: names are in manifests, and never lost"),
    (
        "--offline-resize, --offline",
        "accepted with `--diskspace`, else 21; disks are resized while they are in use",
    ),
];

/// Keys of vz.conf that are not a container's.
pub const GLOBAL: &[(&str, &str)] = &[
    ("VIRTUOZZO", "no counterpart is needed: the controller's unit is enabled or not"),
    (
        "VEIPDUMPDIR",
        "no counterpart is needed: addresses are put right by what the kernel says, not by a file",
    ),
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
pub const CODES: &[(&str, &str)] = &[
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
    ("18", "no: there is no luid; audit's ids are the kernel's own"),
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
    ("47", "same: of `exec`, `exec2`, `enter`, `runscript`"),
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
    ("100", "no: addresses are in manifests, and no list of them can fail"),
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
    ("141", "no: who owns a manifest is 140, and a VE of another host is not there: 14"),
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
