//! Action scripts: what the host's administrator has run at a VE's moments. This file runs them and waits for them; which
//! there are is said by the lifecycle driver, and so is what one that fails means.
//!
//! Those of the host run as root, in a session of their own, with an environment of nothing but what they are told, from a
//! directory that only root can write to. The one that runs inside a VE is a text that a shell of the VE executes with the
//! VE's rights. None lasts longer than it may, or than the process that waits for it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::printed::{Printed, failure};
use crate::error::{At, SysError, SysResult};
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process::{self, SingleThreaded, WaitStatus};
use crate::kernel::seqpacket;
use crate::runtime::enter::{self, Door};
use crate::runtime::spec::StartSpec;

/// What an error calls the operation, wherever it comes from.
pub const RUN: &str = "run action script";

/// What is run at a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scripts {
    /// Programs of the host, in order, before the root is mounted: among the host's mounts.
    pub premount: Vec<PathBuf>,
    /// Programs of the host, in order, once the root is mounted: among the VE's mounts, which they may add to.
    pub mount: Vec<PathBuf>,
    /// What the VE's shell runs once everything is there, before its init.
    pub start: Option<Inside>,
    /// The environment of the host's programs.
    pub env: Vec<(String, String)>,
    /// Each of them may take so long.
    pub timeout_ms: u64,
}

/// A script for the VE's shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inside {
    /// Where it lies on the host.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Version 2 cgroup for processes of the host's.
    pub cgroup_exec: PathBuf,
    /// It may take so long.
    pub timeout_ms: u64,
}

impl Scripts {
    /// Runs those that come before the root.
    pub fn before_root(&self) -> SysResult<()> {
        self.run(&self.premount)
    }

    /// Runs those that find the root mounted.
    pub fn on_root(&self) -> SysResult<()> {
        self.run(&self.mount)
    }

    fn run(&self, programs: &[PathBuf]) -> SysResult<()> {
        let timeout = Duration::from_millis(self.timeout_ms);
        programs.iter().try_for_each(|program| run(program, &self.env, timeout))
    }

    /// How long all of them may take together.
    pub fn longest(&self) -> Duration {
        let host = u64::try_from(self.premount.len() + self.mount.len()).unwrap_or(u64::MAX);
        let inside = self.start.as_ref().map_or(0, |inside| inside.timeout_ms);
        Duration::from_millis(host.saturating_mul(self.timeout_ms).saturating_add(inside))
    }
}

/// Runs a program of the host and waits for its end.
///
/// # Errors
///
/// It cannot be executed, ends with another status than 0, or not in time; then its whole session is killed.
pub fn run(program: &Path, env: &[(String, String)], timeout: Duration) -> SysResult<()> {
    use std::os::unix::process::CommandExt;
    let (mut printed, output) = Printed::pipe()?;
    let twin = output.try_clone().at("duplicate", "pipe")?;
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter().map(|(name, value)| (name, value))).current_dir("/");
    command.stdin(Stdio::null()).stdout(output).stderr(twin).process_group(0);
    process::end_with_this_thread(&mut command);
    let child = command.spawn().at(RUN, program.display())?;
    // The pipe's end that it has been given.
    drop(command);
    let pid = child.id().cast_signed();
    let pidfd = Pidfd::open(pid)?;
    let ended = printed.await_end(&pidfd, timeout)?;
    if !ended {
        process::kill_group(pid);
    }
    let status = process::reap(pid)?;
    result(program, ended.then_some(status), &printed.into_text())
}

/// What came of a script, as its path is known on the host.
pub fn result(path: &Path, status: Option<WaitStatus>, printed: &str) -> SysResult<()> {
    match failure("it", status, printed) {
        None => Ok(()),
        Some(why) => Err(SysError::refused(RUN, path.display(), why)),
    }
}

/// A process that stays where the host's files are until the VE can be entered, and has the VE's shell run the start script
/// then.
#[derive(Debug)]
pub struct Waiting {
    socket: OwnedFd,
    child: process::Child,
}

impl Waiting {
    /// Forks it. It ends when it is not needed after all.
    pub fn fork(proof: SingleThreaded, spec: &StartSpec, inside: &Inside) -> SysResult<Self> {
        let (ours, theirs) = seqpacket::pair()?;
        let child = process::fork(proof, || {
            if process::close_all_but(&[theirs.as_raw_fd()]).is_err() {
                return 1;
            }
            let Ok(Some((pid, _))) = seqpacket::recv::<i32>(&theirs) else { return 0 };
            let done = enter(proof, spec, inside, pid);
            i32::from(seqpacket::send(&theirs, &done, &[]).is_err())
        })?;
        Ok(Waiting { socket: ours, child })
    }

    /// Has it run the script in the VE whose first process that is, and waits.
    pub fn run(self, pid: i32) -> SysResult<()> {
        seqpacket::send(&self.socket, &pid, &[])?;
        let done = seqpacket::recv::<SysResult<()>>(&self.socket)?;
        let ended = self.child.wait()?;
        match done {
            Some((done, _)) => done,
            None => Err(SysError::refused(RUN, "start", format!("its process ended: {ended:?}"))),
        }
    }
}

fn enter(proof: SingleThreaded, spec: &StartSpec, inside: &Inside, pid: i32) -> SysResult<()> {
    let door = Door {
        pid,
        cgroup_exec: inside.cgroup_exec.clone(),
        cgroup_v1: spec.cgroup_v1.clone(),
        capabilities: spec.capabilities,
        seccomp_profile: spec.seccomp_profile.clone(),
        own_attributes: spec.own_attributes,
        users: spec.root.users.clone(),
    };
    let timeout = Duration::from_millis(inside.timeout_ms);
    let first = Pidfd::open(pid)?;
    let (status, printed) = enter::capture(proof, &door, &first, &inside.command(), timeout)?;
    result(&inside.path, status, &printed)
}

impl Inside {
    /// What is executed in the VE.
    pub fn command(&self) -> enter::Command {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let argv = enter::script(self.text.clone(), name);
        enter::Command { argv, env: enter::default_env("dumb"), cwd: "/".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_script_that_fails_is_told_with_its_last_words() {
        run(Path::new("/bin/true"), &[], LONG).unwrap();
        let sh = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("101.mount");
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            run(&path, &[("VEID".into(), "101".into())], LONG).map_err(|e| e.to_string())
        };
        sh("[ \"$VEID\" = 101 ]").unwrap();
        // Nothing of this process's environment.
        sh("[ -z \"$HOME$CARGO\" ]").unwrap();
        let told = sh("echo no disk for $VEID >&2; exit 3").unwrap_err();
        assert!(told.contains("run action script") && told.ends_with("no disk for 101"), "{told}");
        // What goes on in the background holds nothing up.
        sh("sleep 60 & echo $! > /dev/null; kill $!").unwrap();
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mark) = (dir.path().join("101.mount"), dir.path().join("pid"));
        let text = format!("#!/bin/sh\nsleep 1000 &\necho $! > {}\nwait\n", mark.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let told = run(&path, &[("PATH".into(), "/bin".into())], Duration::from_millis(500)).unwrap_err();
        assert!(told.to_string().ends_with("it did not end in time"), "{told}");
        if let Ok(child) = std::fs::read_to_string(&mark).unwrap_or_default().trim().parse::<i32>() {
            // One that is not there any more has ended.
            assert!(Pidfd::open(child).is_err() || Pidfd::open(child).unwrap().wait(LONG).unwrap());
        }
    }
}
