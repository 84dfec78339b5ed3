//! What is to be said of everything but `vzctl`: tools with their exit codes, files, scripts. Pure.

/// Everything else.
pub const TOOLS: &[(&str, &str)] = &[
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
         container down, and is always asked), `--compress`, `-t`, several containers; better: what runs goes on even without `--live`, and what is left \
         is kept in quarantine (`-r` changes nothing); codes 1, 2 (`--live` of what does not run), 4, 6, 8, 9, 10, 12, 14 (no \
         vzd there), 15 to 18, 20, and 7 for whatever else stands in the way, told in words; 13 and 19 are of things that are not there; \
         no: 1 for vz7's own options (`--new-id`, `--new-name`, `--keeper`, `--readonly`, `--noiter`, ...: what is moved keeps its \
         name, number and place), for `--rsync` (there is none), `--keep-dst` (nothing \
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
        "same names, order and environment (`VEID`, `VE_CONFFILE`), also without vzctl; no: those in `VE_PRIVATE/scripts`, where no administrator of the host writes alone; differs: at a start `mount` mounts for the VE alone, \
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
    (
        "vz (init script)",
        "same: `onBoot`, `bootOrder`, `startParallel` of the unit `vzd.service`; better: who was down stays down, who ran comes back; \
         no: CPU is not shared out anew for a shutdown, in which each VE has its own `stopTimeout`",
    ),
    (
        "ve-*.conf-sample of OpenVZ",
        "same: vswap-256m, -512m, -1g, -1024m, -2g, -4g, basic and light are there by name; those of vz7 (`vswap.512MB`, `slm.*`, `vps.*`, cpanel, \
         confixx, plesk, oracle) where their files are; `0.conf` is told and left out",
    ),
    (
        "vzpkgcache, vzpkgls, vzpkgadd, vzpkgrm, vzyum, vzrpm, vzosname",
        "no: `vzpkg create cache`, `list`, `install -p`, `remove -p`; `vzctl exec CTID yum ...`; `vzctl exec CTID cat /etc/os-release`",
    ),
    (
        "vztmpl-dl",
        "no: nobody publishes such templates any more; `vzpkg create cache` builds them, `vzd template add` takes any archive, `template: oci:` images",
    ),
    (
        "vzmlocal, vzmsrc, vzmtemplate, vzmpipe, vzmsetkey",
        "no: `vzd clone` (`vzmlocal -C`), `vzmigrate` run there pulls, `vzd template add` takes archives; ssh has its own keys",
    ),
    (
        "vzoversell, vzcptcheck, vzfsync, vznnc",
        "no: `vzmemcheck`; the other host is asked before anything is moved, and writes to disk what it has got before it says so",
    ),
    (
        "vznetcfg, vznetaddbr, vzifup-post, arpsend, ndsend",
        "no counterpart is needed: `bridge` of an interface is the kernel's, addresses are announced and asked for while a VE starts",
    ),
    ("vzeventd", "better: the controller is told by the kernel, and restarts what was rebooted"),
];

/// Scripts of distributions and of the network.
pub const SCRIPTS: &[(&str, &str)] = &[
    (
        "ADD_IP, DEL_IP",
        "better: addresses are set from outside, live, whatever distribution it is; no file of it is rewritten",
    ),
    ("ADD_NETIF, DEL_NETIF", "better: likewise, of interfaces"),
    ("SET_HOSTNAME", "same: the kernel's name, and a `/etc/hostname` that is there"),
    ("SET_DNS", "same: a part of `/etc/resolv.conf` that is marked; what is around it stays"),
    ("SET_USERPASS", "same: by `chpasswd` of its own; a user that is not there is made"),
    ("SET_UGID_QUOTA", "better: the tools of a distribution find quotas by themselves (`quotaugidlimit`)"),
    (
        "POST_CREATE",
        "no: nothing of a template is changed behind the back of who made it: times of cron jobs, root's password, \
         `/etc/hosts` are its own; capabilities of files come with archives",
    ),
    ("PRE_START", "no counterpart is needed: PAM works in a user namespace; `ID.start` runs there"),
    (
        "SET_CONSOLE",
        "no counterpart is needed: `/dev/console` is a terminal, on which init has its getty or none",
    ),
    ("post_migrate, v2pmigrate-excludes", "no counterpart is needed: what is moved comes with all it has"),
    ("osrelease.conf", "no: the release of the kernel is the host's (144)"),
    (
        "vps-net_add, vps-net_del",
        "better: routes, proxies of neighbours and announcements follow the manifest, and are put right",
    ),
    ("vps-netns_dev_add, vps-netns_dev_del", "better: likewise"),
    ("vps-prestart", "no counterpart is needed: the kernel loads modules for what is asked for"),
    (
        "vps-create, vps-functions, vps-pci",
        "no: `vzctl create` runs no script, and there is nothing to be read in",
    ),
    (
        "vps-cpt, vps-rst, vps-rst-env",
        "no counterpart is needed: a suspended VE's network is cut off and brought back by vzd",
    ),
    ("vzevent-stop, vzevent-reboot", "no counterpart is needed: the controller does that"),
];

/// Exit codes of vzpkg (vztt).
pub const PKG_CODES: &[(&str, &str)] = &[
    ("0", "same"),
    ("1", "same"),
    ("2, 3, 4", "no: 1"),
    ("5", "no: there is nothing apart from it that could be missing"),
    ("6", "no: 29"),
    ("7", "no: there is no licence"),
    ("8", "no: 70"),
    ("9", "same, of a file"),
    ("10", "same"),
    ("11, 12, 13, 14", "no: 1; there are no magic links"),
    ("15, 16", "same"),
    ("17", "no: what is suspended does not run: 15"),
    ("18, 19, 20", "no: software is changed in containers that run: 15"),
    ("21", "no: the package manager waits for its lock: 70"),
    ("22", "same (the text of the man page says 2)"),
    ("23, 24", "same; 24 also where no next release is known"),
    ("25", "no: 1"),
    ("26", "same"),
    ("27", "no: what is installed already is as it is to be: 0"),
    ("28", "no: 24"),
    ("29", "same"),
    ("30, 31, 32, 33, 34", "no: 35"),
    ("35", "same"),
    ("36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51", "no: 35"),
    ("52", "no: 1, of what builds a template; 70 inside"),
    ("54, 55", "no: there is no service"),
    ("56", "no: 70"),
    ("57, 58", "no: recipes are of the host's own architecture"),
    ("59, 60", "no: there are no layouts of templates"),
    ("61", "no: 1"),
    ("62, 63, 64", "no: 1"),
    ("65", "no: there are no application templates"),
    ("66", "no: 15"),
    ("67, 68", "no: there are no metadata, and no shared area"),
    ("69", "no: 1"),
    ("70", "same"),
    ("72", "no: there is no ploop"),
    ("73", "same"),
];

/// Exit codes of vzmigrate, classic and vz7's.
pub const MIGRATE_CODES: &[(&str, &str)] = &[
    ("0", "same"),
    ("1", "same"),
    ("2", "same: `--live` of what does not run"),
    ("3", "no: 20"),
    ("4", "same"),
    ("5", "no: 7"),
    ("6", "same: also no room there"),
    ("7", "same: also whatever has no other code, told in words"),
    ("8", "same"),
    ("9", "same"),
    ("10", "same"),
    ("11", "no: 7"),
    ("12", "same"),
    ("13", "no: a quota comes with the disk: 16"),
    ("14", "same: there is no vzd there"),
    ("15", "same: also its manifest, its profile, or a feature"),
    ("16", "same: what keeps its disk"),
    ("17", "same: the kernel, or CRIU"),
    ("18", "same"),
    ("19", "no: nothing of the other host's configuration is read"),
    ("20", "same"),
    ("21, 22, 25, 26, 49", "no: 4, or 7 once it has begun"),
    ("27, 29, 30, 32, 33, 34, 35, 36", "no: 7"),
    ("31", "no: 6"),
    ("37, 38, 39, 46", "no: 16"),
    ("40, 41, 43, 48, 52", "no: 7; an older vzd there is told in words"),
    ("45", "no: 15"),
    ("56, 57", "no: 18, 17"),
    ("61, 62, 63, 74", "no: 7"),
    ("73", "no: 8 or 7"),
    ("104", "no: 0"),
];

/// Exit codes of vzquota.
pub const QUOTA_CODES: &[(&str, &str)] = &[
    ("0", "same"),
    ("1", "same; also what limits are not set by"),
    ("2, 3, 4", "no: 1"),
    ("5", "same: it is always on"),
    ("6", "same: of a VE that is down"),
    ("7, 8, 9", "no: 1"),
    ("10", "no: such a quota is never dirty"),
    ("11", "same"),
    ("12, 13", "no: 1"),
];
