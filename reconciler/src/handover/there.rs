//! The other host: a command that reaches `vzd receive` there, and what it says and ends with. It opens no connection and
//! knows no keys; that is the command's.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use vzd_schema::v1::{Endpoint, Peer};
use vzd_state::placement::HostName;

use crate::error::{At, SysError, SysResult};
use crate::kernel::pidfd::Pidfd;
use crate::settings::Settings;

/// How another host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Way {
    /// As ssh knows it.
    Ssh(String),
    /// By that command, of which it is the end.
    Via(String),
    /// By TLS.
    Tls {
        /// Where it listens.
        address: Endpoint,
        /// What it is called, if that is known.
        name: Option<HostName>,
    },
}

/// With its input closed it ends within this, or hangs.
const LINGERS: Duration = Duration::from_secs(30);

/// A command that runs and reaches the other host.
#[derive(Debug)]
pub struct There {
    child: Child,
}

impl Way {
    /// To a host, as the hosts' manifest has it.
    pub fn to(peer: &Peer) -> Way {
        match (&peer.via, &peer.address) {
            (Some(via), _) => Way::Via(via.clone()),
            (None, Some(address)) => Way::Tls { address: address.clone(), name: Some(peer.name.clone()) },
            (None, None) => Way::Ssh(peer.name.to_string()),
        }
    }

    fn command(&self, settings: &Settings) -> SysResult<Command> {
        Ok(match self {
            Way::Via(via) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("{via} receive")]);
                shell
            }
            Way::Ssh(host) => {
                let mut ssh = Command::new("ssh");
                // A link that says nothing for 45 s is cut.
                ssh.args(["-o", "ServerAliveInterval=15", "--"]).arg(host).args(["vzd", "receive"]);
                ssh
            }
            Way::Tls { address, name } => {
                let mut own = Command::new(std::env::current_exe().at("find", "vzd itself")?);
                own.args(["pki", "connect", &address.to_string()]).envs(settings.environment());
                own.args(name.iter().flat_map(|name| ["--name", name.as_str()]));
                own
            }
        })
    }

    /// Reaches it.
    pub fn reach(&self, settings: &Settings) -> SysResult<There> {
        Self::spawn(self.command(settings)?)
    }

    /// Reaches it with nobody there who could be asked for a password, in a group of its own that can be ended, and keeps
    /// what it has to say about that.
    pub fn reach_alone(&self, settings: &Settings) -> SysResult<There> {
        let mut command = self.command(settings)?;
        command.process_group(0).stderr(Stdio::piped()).env("SSH_ASKPASS_REQUIRE", "never");
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> SysResult<There> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(There { child: child.at("execute", format_args!("{:?}", command.get_program()))? })
    }
}

impl There {
    /// What it says, and what is said to it. Once.
    pub fn streams(&mut self) -> SysResult<(ChildStdout, ChildStdin)> {
        let streams = self.child.stdout.take().zip(self.child.stdin.take());
        streams.ok_or_else(|| SysError::refused("use", "the command's streams", "it has none"))
    }

    /// What it has ended with, once its input is closed.
    pub fn ended(&mut self) -> Option<u8> {
        self.end().ok()?.code().and_then(|code| u8::try_from(code).ok())
    }

    /// Waits for its end; its input is closed.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(ended) = self.child.try_wait()? {
            return Ok(ended);
        }
        // Not reaped yet, so the number is still its own.
        let pidfd = i32::try_from(self.child.id()).map(Pidfd::open);
        if pidfd.is_ok_and(|pidfd| pidfd.and_then(|pidfd| pidfd.wait(LINGERS)).is_ok_and(|ended| !ended)) {
            self.child.kill()?;
        }
        self.child.wait()
    }

    /// Ends it and all that it has started, if it was reached alone.
    pub fn kill(&self) {
        // Not reaped yet, so the number is still its own.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    /// The last line of what it had to say, once it has ended; of vzd's own words, the one that says what is wrong.
    pub fn last_words(&mut self) -> Option<String> {
        let told = words(self.child.stderr.take()?);
        let last = told.iter().rfind(|line| !line.starts_with("help: "))?;
        Some(
            last.split_once("]: ")
                .filter(|(code, _)| code.starts_with("error["))
                .map_or(&**last, |is| is.1)
                .to_owned(),
        )
    }
}

/// What a command has to say, line by line, until its end; of the first few thousand bytes.
pub fn words(mut from: ChildStderr) -> Vec<String> {
    let mut text = Vec::new();
    let _ = from.by_ref().take(16 << 10).read_to_end(&mut text);
    // It is not held up by what nobody reads.
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

impl Drop for There {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
