//! What vzd keeps in files of a VE's own: its resolvers in /etc/resolv.conf, hosts' names in /etc/hosts.
//!
//! Only a marked part of each file is vzd's; the rest is the VE's own and stays, byte by byte. Here is how a file is
//! taken apart and put together again; who reads and writes it is the driver.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vzd_schema::v1::{self, OrInherit};

use super::Live;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;
use crate::subsystem::{Changes, Cx, Mismatch, json};

/// A file of which a part is vzd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum File {
    /// Where names are looked up.
    ResolvConf,
    /// Names that need no looking up.
    Hosts,
}

/// The lines of vzd in its files. In what is wanted, [`INHERIT`] stands for what the host has.
pub type Files = BTreeMap<File, Vec<String>>;

/// In place of an address or of names: those of the host.
const INHERIT: &str = "<inherit>";
const NAMESERVER: &str = "nameserver ";
const SEARCH: &str = "search ";

/// The lines around the part that is vzd's. They are known by how they begin.
const BEGIN: &str = "# BEGIN vzd";
const END: &str = "# END vzd";
const WHY: &str = ": from the VE's manifest; what is above and below is the VE's own";

impl File {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ResolvConf, Self::Hosts];

    /// Its path in the VE.
    pub fn path(self) -> &'static str {
        match self {
            Self::ResolvConf => "/etc/resolv.conf",
            Self::Hosts => "/etc/hosts",
        }
    }

    /// The fields that lines of it come from, each with how those lines begin.
    fn fields(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ResolvConf => {
                &[("spec.network.nameservers", NAMESERVER), ("spec.network.searchDomains", SEARCH)]
            }
            Self::Hosts => &[("spec.network.hosts", "")],
        }
    }
}

/// The lines that a manifest asks for.
pub(crate) fn lower(given: &v1::Network) -> Files {
    let mut resolvers = Vec::new();
    match &given.nameservers {
        None => {}
        Some(OrInherit::Inherit) => resolvers.push(format!("{NAMESERVER}{INHERIT}")),
        Some(OrInherit::Own(list)) => resolvers.extend(list.iter().map(|one| format!("{NAMESERVER}{one}"))),
    }
    match &given.search_domains {
        None => {}
        Some(OrInherit::Inherit) => resolvers.push(format!("{SEARCH}{INHERIT}")),
        Some(OrInherit::Own(list)) if list.is_empty() => {}
        Some(OrInherit::Own(list)) => {
            let names: Vec<String> = list.iter().map(ToString::to_string).collect();
            resolvers.push(format!("{SEARCH}{}", names.join(" ")));
        }
    }
    let line = |entry: &v1::HostsEntry| {
        let names = entry.names.iter().map(ToString::to_string);
        std::iter::once(entry.address.to_string()).chain(names).collect::<Vec<_>>().join(" ")
    };
    let hosts = given.hosts.iter().map(line).collect();
    let files = [(File::ResolvConf, resolvers), (File::Hosts, hosts)];
    files.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

/// Whether lines that are wanted have the host's name servers among them.
pub(crate) fn inherits(wish: &[String]) -> bool {
    wish.iter().any(|line| line.strip_prefix(NAMESERVER) == Some(INHERIT))
}

/// Where VEs look names up that inherit that from the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolvers {
    /// The host's name servers that a VE can reach as well.
    pub nameservers: Vec<v1::Address>,
    /// The domains in which it looks for names.
    pub search: Vec<String>,
}

/// What the host's manifest says that VEs inherit, where it says other things than the host's resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inherited {
    /// Name servers.
    pub nameservers: Option<Vec<v1::Address>>,
    /// Domains in which names are looked for.
    pub search: Option<Vec<String>>,
}

impl Inherited {
    /// As the host's manifest has it.
    pub fn of(host: &v1::HostNetwork) -> Self {
        let search = own(host.search_domains.as_ref());
        let search = search.map(|names| names.iter().map(ToString::to_string).collect());
        Self { nameservers: own(host.nameservers.as_ref()).map(<[_]>::to_vec), search }
    }
}

fn own<T>(given: Option<&OrInherit<T>>) -> Option<&[T]> {
    match given {
        Some(OrInherit::Own(list)) => Some(list),
        Some(OrInherit::Inherit) | None => None,
    }
}

impl Resolvers {
    /// As a resolv.conf(5) says it. Servers on the host's loopback are out of a VE's reach.
    pub fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<v1::Address>().ok());
                    found.nameservers.extend(address.filter(|address| !address.0.is_loopback()));
                }
                // Of several, the last counts.
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found
    }

    /// With what the host's manifest says in the place of what the host has.
    pub fn given(self, given: &Inherited) -> Self {
        let reachable = |list: &Vec<v1::Address>| {
            list.iter().filter(|address| !address.0.is_loopback()).cloned().collect()
        };
        Self {
            nameservers: given.nameservers.as_ref().map_or(self.nameservers, reachable),
            search: given.search.clone().unwrap_or(self.search),
        }
    }

    /// What stands in a VE's file by now, but for the server that is asked before the others.
    pub fn kept(lines: &[String], first: Option<IpAddr>) -> Self {
        let mut kept = Self::read(&lines.join("\n"));
        kept.nameservers.retain(|address| Some(address.0) != first);
        kept
    }

    /// Has a server asked before the others.
    pub fn ask_first(&mut self, server: Option<IpAddr>) {
        self.nameservers.splice(0..0, server.map(v1::Address));
    }

    /// Lines with what the host has in the place of `inherit`.
    pub fn expand(&self, lines: &[String]) -> Vec<String> {
        let mut expanded = Vec::new();
        for line in lines {
            match line.strip_suffix(INHERIT) {
                None => expanded.push(line.clone()),
                Some(NAMESERVER) => {
                    expanded.extend(self.nameservers.iter().map(|one| format!("{NAMESERVER}{one}")));
                }
                Some(_) if self.search.is_empty() => {}
                Some(what) => expanded.push(format!("{what}{}", self.search.join(" "))),
            }
        }
        expanded
    }
}

/// What is seen of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesSeen {
    /// Where VEs look names up that inherit that.
    pub host: Resolvers,
    /// vzd's lines in each file that is wanted or was written.
    pub lines: Files,
    /// What is in a file's place that is none, in words.
    pub instead: BTreeMap<File, String>,
}

impl FilesSeen {
    /// Whether a server is among vzd's lines.
    pub fn asks(&self, server: IpAddr) -> bool {
        let line = format!("{NAMESERVER}{server}");
        self.lines.get(&File::ResolvConf).is_some_and(|lines| lines.contains(&line))
    }
}

/// Takes a file apart: the lines of vzd, if there is such a part, and all the rest.
pub fn split(text: &str) -> (Option<Vec<String>>, String) {
    let (mut ours, mut rest): (Option<Vec<String>>, _) = (None, String::new());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with(BEGIN) {
            rest.push_str(line);
            continue;
        }
        // Whose end somebody took away has none: what follows may be anybody's.
        let part: Vec<&str> = lines.clone().take_while(|line| !line.starts_with(END)).collect();
        if lines.clone().nth(part.len()).is_some() {
            ours = Some(part.iter().map(|line| line.trim_end().to_owned()).collect());
            lines.nth(part.len());
        } else {
            ours = Some(Vec::new());
        }
    }
    (ours, rest)
}

/// Where in a file vzd's part is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Before all else: the first name server is asked first.
    First,
    /// After all else: the last of several values counts.
    Last,
}

/// Puts a file together, of lines of vzd, if there are any, and the rest.
pub fn join(lines: &[String], part: Part, rest: &str) -> String {
    if lines.is_empty() {
        return rest.to_owned();
    }
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ours = format!("{BEGIN}{WHY}\n{lines}{END}\n");
    match part {
        Part::First => ours + rest,
        Part::Last if rest.is_empty() || rest.ends_with('\n') => format!("{rest}{ours}"),
        Part::Last => format!("{rest}\n{ours}"),
    }
}

fn part(lines: &[String], prefix: &str) -> Vec<String> {
    lines.iter().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
}

/// The fields of a file that differ: path, what is there, what is wanted.
fn differences(
    file: File,
    have: &[String],
    want: &[String],
) -> Vec<(&'static str, Vec<String>, Vec<String>)> {
    if have == want {
        return Vec::new();
    }
    let fields = file.fields().iter().map(|(path, prefix)| (*path, part(have, prefix), part(want, prefix)));
    let differ: Vec<_> = fields.clone().filter(|(_, have, want)| have != want).collect();
    // Lines that come from no field, or another order.
    if differ.is_empty() { fields.filter(|(_, _, want)| !want.is_empty()).take(1).collect() } else { differ }
}

/// Steps that make the files as wanted.
pub(super) fn diff(
    changes: &mut Changes<Live, Infallible>,
    wanted: &Files,
    seen: &Reading<FilesSeen>,
    cx: &Cx<'_>,
) {
    let FilesSeen { host, lines, instead } = match seen {
        Reading::Unreadable(why) => return changes.cannot_read("spec.network.nameservers", why),
        Reading::Absent => return,
        Reading::Is(seen) => seen,
    };
    let none = Files::new();
    let applied = cx.entry.and_then(|entry| entry.applied.network.as_deref());
    let applied = applied.map_or(&none, |applied| &applied.files);
    for file in File::ALL {
        let (wish, had) = (wanted.get(&file), applied.get(&file));
        if wish.is_none() && had.is_none() {
            continue;
        }
        let to = wish.map(|wish| host.expand(wish)).unwrap_or_default();
        let from = lines.get(&file).cloned().unwrap_or_default();
        let cause = if wish == had { Cause::Drift } else { Cause::Spec };
        let indices: Vec<usize> = differences(file, &from, &to)
            .into_iter()
            .map(|(path, have, want)| {
                let have = match instead.get(&file) {
                    Some(what) => what.as_str().into(),
                    None => json(&Some(have).filter(|have| !have.is_empty())),
                };
                let want = json(&Some(want).filter(|want| !want.is_empty()));
                changes.field(Change::new(path, have, want, Disruption::Live).because(cause))
            })
            .collect();
        let forgotten = wish.is_none() && had.is_some();
        if !indices.is_empty() || forgotten {
            let (wish, had) = (wish.cloned().unwrap_or_default(), had.cloned().unwrap_or_default());
            changes.live.push((Live::SetFile { file, from, had, to, wish }, indices));
        }
    }
}

/// What of the files is not as wanted.
pub(super) fn satisfied(wanted: &Files, seen: &Reading<FilesSeen>) -> Vec<Mismatch> {
    let nothing = FilesSeen::default();
    let seen = seen.is().unwrap_or(&nothing);
    let mut wrong = Vec::new();
    for (file, wish) in wanted {
        let have = seen.lines.get(file).cloned().unwrap_or_default();
        let differ = differences(*file, &have, &seen.host.expand(wish));
        wrong.extend(
            differ
                .into_iter()
                .map(|(path, have, want)| Mismatch::new(path, json(&want), json(&have), Disruption::Live)),
        );
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn the_rest_of_a_file_stays_byte_by_byte() {
        let ours = lines(&["nameserver 10.1.0.1", "search example.net"]);
        for rest in ["", "nameserver 9.9.9.9\n", "no end of line", "\n\n  # x\r\n", "# END vzd\nx\n"] {
            let whole = join(&ours, Part::First, rest);
            assert_eq!(split(&whole), (Some(ours.clone()), rest.to_owned()), "{rest:?}");
            assert_eq!(join(&[], Part::First, &split(&whole).1), rest);
            let (is, left) = split(&join(&ours, Part::Last, rest));
            assert_eq!(
                (is.as_ref(), left.trim_end_matches('\n')),
                (Some(&ours), rest.trim_end_matches('\n'))
            );
            assert_eq!(split(rest), (None, rest.to_owned()));
        }
    }

    #[test]
    fn a_part_that_was_damaged_costs_nothing_of_the_rest() {
        let cases = [
            ("a\n# BEGIN vzd\nb\n", Some(lines(&[])), "a\nb\n"),
            ("# BEGIN vzd\nb\n# END vzd\nc\n# BEGIN vzd: x\nd\n# END vzd", Some(lines(&["d"])), "c\n"),
            ("# BEGIN vzd", Some(lines(&[])), ""),
        ];
        for (text, ours, rest) in cases {
            assert_eq!(split(text), (ours, rest.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn what_the_host_has_takes_the_place_of_inherit() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\n\
                    domain old\nsearch a.example b.example\noptions edns0\n";
        let host = Resolvers::read(text);
        assert_eq!(host.nameservers, ["10.0.0.1".parse().unwrap()]);
        let wish = lines(&["nameserver <inherit>", "nameserver 10.1.0.1", "search <inherit>"]);
        let expanded = ["nameserver 10.0.0.1", "nameserver 10.1.0.1", "search a.example b.example"];
        assert_eq!(host.expand(&wish), expanded);
        assert_eq!(Resolvers::default().expand(&wish), ["nameserver 10.1.0.1"]);
        let mut first = host.clone();
        first.ask_first(None);
        assert_eq!(first, host);
        let resolver = "169.254.1.1".parse().unwrap();
        first.ask_first(Some(resolver));
        assert_eq!(first.expand(&wish)[..2], ["nameserver 169.254.1.1", "nameserver 10.0.0.1"]);
        let seen = |wish: &[String]| FilesSeen {
            lines: [(File::ResolvConf, wish.to_vec())].into(),
            ..FilesSeen::default()
        };
        assert!(seen(&first.expand(&wish)).asks(resolver) && !seen(&host.expand(&wish)).asks(resolver));
    }
}
