//! Debian packages of another suite than the machine's, fetched and unpacked into folders of our own.
//!
//! Must not install anything, and must not touch the machine's package lists: apt runs with a configuration of its own.
//! Where packages come from is read from the machine's own sources, so that a mirror or a proxy is used here too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{Context, Failure, Result, capture, fail, run, shown};

/// For how long package lists are taken as they are.
const LISTS_ARE_NEW: Duration = Duration::from_secs(24 * 3600);

/// apt, looking at one suite and at a machine on which nothing is installed.
pub(crate) struct Apt {
    suite: &'static str,
    directory: PathBuf,
}

impl Apt {
    /// Makes the configuration below `cache`, and fetches the lists if there are none or only old ones.
    pub(crate) fn new(cache: &Path, suite: &'static str) -> Result<Apt> {
        let apt = Apt { suite, directory: cache.join(format!("apt-{suite}")) };
        for part in ["lists/partial", "cache/archives/partial", "none"] {
            let part = apt.directory.join(part);
            std::fs::create_dir_all(&part).context(part.display())?;
        }
        write(&apt.directory.join("status"), "")?;
        write(&apt.sources(), &sources(suite)?)?;
        apt.refresh()?;
        Ok(apt)
    }

    /// The list of sources, for other programs that fetch packages.
    pub(crate) fn sources(&self) -> PathBuf {
        self.directory.join("sources.list")
    }

    /// The version of a package that would be fetched.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        self.field(package, "Version")
    }

    /// The first package that `package` depends on, without its version: what a metapackage stands for.
    pub(crate) fn first_dependency(&self, package: &str) -> Result<String> {
        let all = self.field(package, "Depends")?;
        match all.split([' ', ',']).next() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => fail(format!("{package} of {} depends on nothing", self.suite)),
        }
    }

    fn field(&self, package: &str, name: &str) -> Result<String> {
        let text = capture(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(str::to_owned).ok_or(Failure(format!("{package} of {}: no field {name}", self.suite)))
    }

    /// One line a package that an empty machine would get with these, each with its version.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<String> {
        let mut command = self.command("apt-get");
        command.args(["--quiet=2", "--simulate", "--no-install-recommends", "install"]).args(packages);
        let text = capture(&mut command)?;
        let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Inst ")).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// Fetches packages, with all that they need if `whole`, and unpacks them into `root`.
    pub(crate) fn unpack(&self, packages: &[&str], whole: bool, root: &Path) -> Result<()> {
        let archives = root.with_extension("archives");
        std::fs::create_dir_all(archives.join("partial")).context(archives.display())?;
        let mut command = self.command("apt-get");
        command.arg("--quiet=2").arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
        match whole {
            true => command.args(["--yes", "--no-install-recommends", "--download-only", "install"]),
            false => command.current_dir(&archives).arg("download"),
        };
        run(command.args(packages).stdout(Stdio::null()))?;
        std::fs::create_dir_all(root).context(root.display())?;
        for archive in std::fs::read_dir(&archives).context(archives.display())?.flatten() {
            if archive.path().extension().is_some_and(|ending| ending == "deb") {
                extract(&archive.path(), root)?;
            }
        }
        std::fs::remove_dir_all(&archives).context(archives.display())
    }

    fn refresh(&self) -> Result<()> {
        let stamp = self.directory.join("lists/fetched");
        let age = std::fs::metadata(&stamp).and_then(|data| data.modified()).ok();
        if age.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < LISTS_ARE_NEW) {
            return Ok(());
        }
        // Errors of a mirror are warnings to apt unless it is told otherwise.
        let mut update = self.command("apt-get");
        update.args(["--quiet=2", "-o", "APT::Update::Error-Mode=any", "update"]);
        match run(&mut update) {
            Err(Failure(why)) if age.is_some() => eprintln!("lab: goes on with old package lists: {why}"),
            other => other?,
        }
        write(&stamp, "")
    }

    fn command(&self, program: &str) -> Command {
        let directory = self.directory.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={directory}/sources.list"),
            format!("Dir::Etc::sourceparts={directory}/none"),
            format!("Dir::Etc::preferencesparts={directory}/none"),
            format!("Dir::State::Lists={directory}/lists"),
            format!("Dir::State::status={directory}/status"),
            format!("Dir::Cache={directory}/cache"),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// `dpkg-deb --extract` would replace the link /lib of a merged root by a directory.
fn extract(archive: &Path, root: &Path) -> Result<()> {
    let mut unpacker = Command::new("dpkg-deb");
    unpacker.arg("--fsys-tarfile").arg(archive).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut unpacker_runs = unpacker.spawn().context(shown(&unpacker))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--directory"]).arg(root);
    if let Some(out) = unpacker_runs.stdout.take() {
        tar.stdin(out);
    }
    let written = tar.status().context(shown(&tar))?;
    let read = unpacker_runs.wait().context(shown(&unpacker))?;
    match written.success() && read.success() {
        true => Ok(()),
        false => fail(format!("unpack {}: {read}, tar: {written}", archive.display())),
    }
}

/// A one-line source for `suite`, with the address and key that the machine has for Debian.
fn sources(suite: &str) -> Result<String> {
    let mut texts = Vec::new();
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let paths = parts.map(|entry| entry.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    for path in paths.filter(|path| path.extension().is_some_and(|e| e == "sources" || e == "list")) {
        texts.push(std::fs::read_to_string(&path).unwrap_or_default());
    }
    let Some(uri) = texts.iter().flat_map(|text| text.lines()).find_map(debian_uri) else {
        return fail(
            "no source of Debian's main archive in /etc/apt: packages of other releases come from there",
        );
    };
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    Ok(format!("deb [signed-by={keys}] {uri} {suite} main\n"))
}

/// The address in a line of either format, if it is of the main archive.
fn debian_uri(line: &str) -> Option<String> {
    let rest = line.strip_prefix("URIs:").or_else(|| line.strip_prefix("deb "))?;
    let is_main = |word: &&str| word.trim_end_matches('/').ends_with("/debian");
    rest.split_whitespace().find(is_main).map(str::to_owned)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_formats() {
        assert_eq!(debian_uri("URIs: http://mirror/debian").as_deref(), Some("http://mirror/debian"));
        assert_eq!(
            debian_uri("deb [a=b] http://mirror/debian/ x main").as_deref(),
            Some("http://mirror/debian/")
        );
        assert_eq!(debian_uri("URIs: http://mirror/debian-security"), None);
        assert_eq!(debian_uri("# URIs: http://mirror/debian"), None);
    }
}
