//! A controller of a sandbox: started until it answers, stopped, killed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::run::code;
use crate::{LONG, Must, Process, Sandbox, within};

/// A running `vzd run`. Dropping it kills it; its VEs go with the sandbox.
pub struct Daemon<'a> {
    sandbox: &'a Sandbox,
    child: Option<Child>,
}

impl<'a> Daemon<'a> {
    pub(crate) fn start(sandbox: &'a Sandbox, configure: impl FnOnce(&mut Command)) -> Daemon<'a> {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(sandbox.log()).must("open the log");
        let mut command = sandbox.command(&["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        configure(&mut command);
        let child = command.spawn().must("start the controller");
        Daemon { sandbox, child: Some(child) }
    }

    /// Waits until it answers on its socket.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Daemon<'a> {
        let socket = self.sandbox.run_dir().join("vzd.sock");
        within(LONG, "the controller answers", || {
            let ended =
                self.child.as_mut().and_then(|child| child.try_wait().must("wait for the controller"));
            assert!(ended.is_none(), "the controller ended: {ended:?}\n{}", self.sandbox.log_text());
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        self
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).must("the controller runs")
    }

    /// Kills it as the kernel would.
    pub fn kill9(mut self) {
        self.end();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().must("wait for the controller").is_some())
    }

    /// Asks it to stop, and returns its exit code.
    #[track_caller]
    pub fn stop(mut self) -> i32 {
        if let Some(process) = Process::open(self.pid()) {
            process.signal(Signal::TERM);
        }
        self.wait(LONG)
    }

    /// Tells it to read and look at everything again.
    pub fn reload(&self) {
        if let Some(process) = Process::open(self.pid()) {
            process.signal(Signal::HUP);
        }
    }

    /// Waits for its end, and returns its exit code.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> i32 {
        let child = self.child.as_mut().must("the controller runs");
        let status =
            within(timeout, "the controller ends", || child.try_wait().must("wait for the controller"));
        self.child = None;
        code(status)
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Not reaped yet, so the number is still its own.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
