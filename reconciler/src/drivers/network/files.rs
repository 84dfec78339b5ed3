//! vzd's lines in files of a VE's own, IO half; and where VEs look names up that inherit that from the host.

use std::path::Path;

use vzd_state::names::resolver_of;
use vzd_state::subsystem::network::{self, File, Files, FilesSeen, Inherited, Resolvers};

use crate::drivers::namespaces::root_of;
use crate::drivers::{Running, Ve};
use crate::error::SysResult;
use crate::runtime::etc::{self, Seen};

/// Where the host's manifest says that names are looked up, or else where the host itself does.
fn inherited(ve: Ve<'_>, given: &Inherited) -> Resolvers {
    host(ve).given(given)
}

/// Where the host looks names up: with systemd-resolved, /etc/resolv.conf names its own stub only, and the servers
/// behind it are in the second.
fn host(ve: Ve<'_>) -> Resolvers {
    let read =
        |path: &Path| std::fs::read_to_string(path).map(|text| Resolvers::read(&text)).unwrap_or_default();
    let first = read(&ve.host.settings.resolv_conf);
    if !first.nameservers.is_empty() {
        return first;
    }
    let second = read(Path::new("/run/systemd/resolve/resolv.conf"));
    if second.nameservers.is_empty() { first } else { second }
}

/// The lines that a VE is started with.
pub fn lines(ve: Ve<'_>, want: &network::Desired) -> Files {
    if want.files.is_empty() {
        return Files::new();
    }
    let mut host = inherited(ve, &ve.host.resolver.inherited().unwrap_or_default());
    if ve.host.resolver.is_wanted() == Some(true) {
        host.ask_first(resolver_of(want));
    }
    want.files.iter().map(|(file, wish)| (*file, host.expand(wish))).collect()
}

/// Files of which lines are wanted or were written.
pub(super) fn look(ve: Ve<'_>, running: &Running) -> SysResult<FilesSeen> {
    let mut seen = FilesSeen::default();
    let wanted = ve.want.map(|want| &want.network.files);
    let applied = ve.entry.applied.network.as_deref().map(|is| &is.files);
    let known = |file: &File| {
        wanted.is_some_and(|is| is.contains_key(file)) || applied.is_some_and(|is| is.contains_key(file))
    };
    let known: Vec<File> = File::ALL.into_iter().filter(known).collect();
    if known.is_empty() {
        return Ok(seen);
    }
    let root = root_of(running.pid)?;
    for file in known {
        match etc::look(&root, file.path()).and_then(|is| Ok((is.lines(file.path())?, is))) {
            Ok((lines, is)) => {
                seen.lines.extend(lines.map(|lines| (file, lines)));
                if let Seen::Link(target) = is {
                    seen.instead.insert(file, format!("a link to {target}"));
                }
            }
            // Whatever the VE's owner has put there is no reason to leave the rest of its network alone.
            Err(e) => drop(seen.instead.insert(file, e.to_string())),
        }
    }
    let network = ve.want.map(|want| &want.network).or(ve.entry.applied.network.as_deref());
    let resolver = network.and_then(resolver_of);
    // While the host's settings are not known, it is as it is.
    seen.host = match (ve.host.resolver.inherited(), seen.lines.get(&File::ResolvConf)) {
        (None, Some(lines)) => Resolvers::kept(lines, resolver),
        (given, _) => inherited(ve, &given.unwrap_or_default()),
    };
    let asks = || resolver.is_some_and(|resolver| seen.asks(resolver));
    if ve.host.resolver.is_wanted().unwrap_or_else(asks) {
        seen.host.ask_first(resolver);
    }
    Ok(seen)
}
