//! What each tool can be told besides what it works on, for its man page and for shells that complete: options in words, words that
//! are commands, and exit codes. What `vzctl` takes is in tables of its own. Pure.

/// Of one tool.
pub struct Told {
    /// Its name.
    pub tool: &'static str,
    /// Options as they are written, and what they do.
    pub options: &'static [(&'static str, &'static str)],
    /// Words that come first, if any do.
    pub commands: &'static [&'static str],
    /// How it ends.
    pub codes: &'static [(&'static str, &'static str)],
}

/// That of a tool; nothing of `vzctl`.
pub fn of(tool: &str) -> Option<&'static Told> {
    TOLD.iter().find(|told| told.tool == tool)
}

impl Told {
    /// Options as a shell completes them, each name by itself.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let names = self.options.iter().flat_map(|(written, _)| written.split(", "));
        names.filter_map(|name| name.split([' ', '=', '[']).next())
    }
}

const PLAIN: &[(&str, &str)] = &[("0", "done"), ("1", "it could not be done, or the command line is wrong")];

/// All but `vzctl`.
pub const TOLD: &[Told] = &[
    Told {
        tool: "vzlist",
        options: &[
            ("-a, --all", "all containers, not only those that run"),
            ("-S, --stopped", "only those that do not run"),
            ("-H, --no-header", "without the first line"),
            ("-t, --no-trim", "long values are not cut"),
            ("-n, --name", "names instead of numbers"),
            ("-j, --json", "as JSON"),
            ("-o, --output FIELD[,FIELD...]", "these fields"),
            ("-s, --sort [-]FIELD", "sorted by this field, with `-` the other way round"),
            ("-h, --hostname PATTERN", "only those whose host name is so; `*` and `?` stand for others"),
            ("-N, --name_filter PATTERN", "only those whose name is so"),
            ("-d, --description PATTERN", "only those whose description is so"),
            ("-1", "numbers alone: -H -octid"),
            ("-L, --list", "names the fields"),
        ],
        commands: &[],
        codes: &[("0", "done"), ("1", "there is no such container, or the command line is wrong")],
    },
    Told {
        tool: "vzpkg",
        options: &[
            ("-p, --packages", "of packages: there is nothing else to be installed"),
            ("-O, --os", "templates alone, which is all there are"),
            ("-c, --cached", "only what is made already"),
            ("--available", "what could be made"),
            ("--all", "of all containers that run, instead of a number"),
            ("-q, --quiet", "only errors are told"),
        ],
        commands: &[
            "list",
            "create",
            "update",
            "remove",
            "install",
            "localinstall",
            "localupdate",
            "upgrade",
            "info",
            "status",
            "help",
        ],
        codes: &[
            ("0", "done; of status: up to date"),
            ("1", "the system refused something"),
            ("9", "a file is not there"),
            ("10", "only root may"),
            ("15", "the container does not run"),
            ("16", "there is no such container"),
            ("22", "there is something newer"),
            ("23", "there is no cache of the template"),
            ("24", "there is no such template, or no next release is known"),
            ("26", "it is not installed in the container"),
            ("29", "there is a cache of the template already"),
            ("35", "the command line is wrong, or the manifest says otherwise"),
            ("70", "the package manager failed"),
            ("73", "the container has no package manager that is known"),
        ],
    },
    Told {
        tool: "vzubc",
        options: &[
            ("-q, --quiet", "only what has failed or is near its limit"),
            ("-qh, --qheld RATIO", "near is this part of the limit (0.5)"),
            ("-qm, --qmaxheld RATIO", "or was once this part of it (0.8)"),
            ("-v, --verbose", "also what has no limit"),
            ("-r, --relative", "failures since it was asked so last"),
            ("-rc, --rclear", "forgets what -r has noted"),
            ("-rd, --rdir DIR", "where -r notes it (/tmp/vzubc.store)"),
            ("-i, --incremental", "what is held, since it was asked so last"),
            ("-ic, --iclear", "forgets what -i has noted"),
            ("-c, --color", "in colours"),
            ("-f, --file FILE", "of a file with the text of user_beancounters, or of standard input (-)"),
            ("-w, --watch", "again and again"),
            ("-wn SECONDS", "as often as that"),
            ("-wd", "with what has changed marked"),
            ("-wt", "without a title"),
        ],
        commands: &[],
        codes: PLAIN,
    },
    Told {
        tool: "vzpid",
        options: &[("-p", "also the number inside the container")],
        commands: &[],
        codes: PLAIN,
    },
    Told { tool: "vzcalc", options: &[("-v", "each resource by itself")], commands: &[], codes: PLAIN },
    Told {
        tool: "vzmemcheck",
        options: &[("-v", "each container by itself"), ("-A, --absolute", "in megabytes instead of percent")],
        commands: &[],
        codes: PLAIN,
    },
    Told {
        tool: "vzcpucheck",
        options: &[("-v", "each container by itself")],
        commands: &[],
        codes: &[("0", "done"), ("1", "it could not be counted"), ("2", "the command line is wrong")],
    },
    Told {
        tool: "vzcfgvalidate",
        options: &[
            ("-r", "repairs what does not fit"),
            ("-i", "asks before each repair"),
            ("-v, --verbose yes|no", "tells every number"),
        ],
        commands: &[],
        codes: &[("0", "it fits"), ("1", "it cannot be read"), ("2", "it does not fit")],
    },
    Told {
        tool: "vzcfgscale",
        options: &[
            ("-a FACTOR", "all numbers"),
            ("-c FACTOR", "those of CPU"),
            ("-d FACTOR", "those of the disk"),
            ("-u FACTOR", "beancounters"),
            ("-n FACTOR", "those of the network"),
            ("-o FILE", "to this file"),
            ("-r", "without what is one container's own"),
            ("-v", "checked afterwards"),
        ],
        commands: &[],
        codes: PLAIN,
    },
    Told {
        tool: "vzsplit",
        options: &[
            ("-n NUMBER", "so many containers; it asks if this is left out"),
            ("-f NAME", "makes the profile of that name"),
            ("-s KILOBYTES", "swap to be shared"),
            ("-v yes|no", "with VSwap (yes), or all counters"),
        ],
        commands: &[],
        codes: &[("0", "done"), ("1", "the host is too small, or the command line is wrong")],
    },
    Told {
        tool: "vzquota",
        options: &[
            ("-t", "also quotas of users and groups"),
            ("-f", "accepted: what is told is always fresh"),
        ],
        commands: &["stat", "show", "on", "off", "init", "drop", "setlimit"],
        codes: &[
            ("0", "done"),
            ("1", "the command line is wrong, or limits are to be set another way"),
            ("5", "the quota is on, as it always is"),
            ("6", "the container is down"),
            ("11", "the container has no quota"),
        ],
    },
    Told {
        tool: "vzmigrate",
        options: &[
            ("--ssh=OPTIONS", "options of ssh"),
            ("--live, --online", "only if it runs; it goes on in any case"),
            ("--check-only, --dry-run", "changes nothing"),
            ("-f, --nodeps[=cpu,ipv6,all]", "what processors can do is not compared"),
            ("--compress", "what is sent goes compressed"),
            ("-t, --times", "tells how long it took"),
            ("-v", "the same"),
            ("-r, --remove-area yes|no", "changes nothing: what is left is in quarantine"),
            ("--ssh-mux, -c, --compact, -s, --snapshot", "accepted: there is nothing to be done for them"),
        ],
        commands: &[],
        codes: &[
            ("0", "done"),
            ("1", "the command line is wrong"),
            ("2", "--live of a container that does not run"),
            ("4", "the other host was not reached"),
            ("6", "files could not be sent, or have no room there"),
            ("7", "it could not go on there, or anything else"),
            ("8", "it could not be suspended here"),
            ("9", "there is one of its name or number there"),
            ("10", "there is no such container here"),
            ("12", "one of its addresses is another's there"),
            ("14", "there is no vzd there"),
            ("15", "its manifest cannot be in force there"),
            ("16", "what keeps its disk cannot be had there"),
            ("17", "the kernel or CRIU there is older, or missing"),
            ("18", "the processors there are others"),
            ("20", "somebody else works on it"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::{TOLD, of};

    #[test]
    fn every_tool_is_told_of() {
        let missing: Vec<_> =
            crate::compat::names().filter(|name| *name != "vzctl" && of(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(TOLD.len() + 1, crate::compat::names().count());
        let names: Vec<_> = of("vzmigrate").unwrap().names().collect();
        assert!(
            names.contains(&"--ssh") && names.contains(&"--online") && names.contains(&"-r"),
            "{names:?}"
        );
    }
}
