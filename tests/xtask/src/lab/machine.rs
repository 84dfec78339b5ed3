//! One guest: qemu started, what it tells passed on, and ended. Must end the qemu that it started, whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

use super::image::Image;
use super::wire::Message;
use crate::run::{Context, Result, shown};

/// What is said of a guest, with the guest's number.
pub(super) enum Event {
    Said(Message),
    /// It has ended; with what qemu itself had to say.
    Gone(String),
}

/// How to start one.
pub(super) struct Setup<'a> {
    pub(super) image: &'a Image,
    /// A file system with the job's files.
    pub(super) job: &'a Path,
    /// A directory for sockets and the console's log.
    pub(super) directory: &'a Path,
    /// Which of the guests it is, from 0; its address on their link is 10.77.0.(1 + index).
    pub(super) index: usize,
    /// Whether there is another on the link.
    pub(super) linked: bool,
    /// systemd instead of the job's own init; then the guest may reboot.
    pub(super) systemd: bool,
    /// The console is this terminal instead of a file.
    pub(super) interactive: bool,
    /// More words for the kernel's command line.
    pub(super) words: String,
}

/// A running guest. Dropping it ends it.
pub(super) struct Machine {
    child: Child,
    socket: PathBuf,
    /// The log of its console.
    pub(super) console: PathBuf,
}

impl Machine {
    /// Starts qemu; events come with `setup.index`.
    pub(super) fn start(setup: &Setup, events: &Sender<(usize, Event)>) -> Result<Machine> {
        let index = setup.index;
        let name = |what: &str| setup.directory.join(format!("{what}-{index}"));
        let (socket, console) = (name("results"), name("console"));
        let listener = UnixListener::bind(&socket).context(socket.display())?;
        let mut command = command(setup, &socket, &console);
        if !setup.interactive {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let mut child = command.spawn().context(shown(&command))?;
        let tell = events.clone();
        std::thread::spawn(move || {
            // The other thread tells of a guest that never came so far.
            let Ok((stream, _)) = listener.accept() else { return };
            for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
                if let Some(message) = Message::read(&String::from_utf8_lossy(&line)) {
                    drop(tell.send((index, Event::Said(message))));
                }
            }
            drop(tell.send((index, Event::Gone(String::new()))));
        });
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            let tell = events.clone();
            std::thread::spawn(move || {
                let mut said = String::new();
                // Both end when qemu does.
                drop(err.chain(out).read_to_string(&mut said));
                drop(tell.send((index, Event::Gone(said))));
            });
        }
        Ok(Machine { child, socket, console })
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.child.wait().map(|_| ()).context("wait for qemu")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Not waited for yet, or ended already: the number is its own either way.
        drop(self.child.kill());
        drop(self.child.wait());
        // Wakes the thread that waits for a qemu that never connected.
        drop(UnixStream::connect(&self.socket));
        drop(std::fs::remove_file(&self.socket));
    }
}

fn command(setup: &Setup, socket: &Path, console: &Path) -> Command {
    let qemu = &setup.image.qemu;
    let part = |name: &str| qemu.join(name).display().to_string();
    // It ends with the thread that starts it, even if that is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(qemu.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.args(["--library-path", &part("usr/lib/x86_64-linux-gnu"), &part("usr/bin/qemu-system-x86_64")]);
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.args(["-L", &part(data)]);
    }
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-M",
        "q35",
        "-smp",
        "2",
        "-m",
        "2048",
    ]);
    match std::env::var_os("VZD_LAB_KVM") {
        Some(_) => command.args(["-accel", "kvm", "-cpu", "host"]),
        // Some processors have no instructions for AES, and TLS takes another cipher there; this machine's has them.
        None => command.args(["-accel", "tcg,thread=multi", "-cpu", "max,aes=off,pclmulqdq=off"]),
    };
    if !setup.systemd {
        command.arg("-no-reboot");
    }
    // Nobody writes to the files, and qemu's locks would be seen in VEs of this machine (/proc/locks).
    let disk = |path: &Path, more: &str| {
        format!("file={},format=raw,file.locking=off,if=virtio,{more}", path.display())
    };
    command.arg("-drive").arg(disk(&setup.image.root, "snapshot=on,cache=unsafe"));
    command.arg("-drive").arg(disk(setup.job, "readonly=on"));
    command.arg("-chardev").arg(format!("socket,id=results,path={}", socket.display()));
    command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results,name=results"]);
    match setup.interactive {
        true => command.args(["-chardev", "stdio,id=console,signal=off"]),
        false => command.arg("-chardev").arg(format!("file,id=console,path={}", console.display())),
    };
    command.args(["-serial", "chardev:console"]);
    if setup.linked {
        let end = |index: usize| setup.directory.join(format!("link-{index}")).display().to_string();
        let (own, other) = (end(setup.index), end(1 - setup.index));
        command.arg("-netdev").arg(format!(
            "dgram,id=link,local.type=unix,local.path={own},remote.type=unix,remote.path={other}"
        ));
        let mac = format!("52:54:00:77:00:{:02x}", setup.index + 1);
        command.arg("-device").arg(format!("virtio-net-pci,netdev=link,mac={mac}"));
    }
    command.arg("-kernel").arg(&setup.image.kernel).arg("-initrd").arg(&setup.image.initramfs);
    let mut words = setup.words.clone();
    if setup.systemd {
        // A getty would wait for a device that nobody announces: there is no udev. A shell doesn't.
        words += if setup.interactive { " systemd.debug_shell=ttyS0" } else { "" };
        words += " systemd.getty_auto=no";
    }
    let init = if setup.systemd { "/sbin/init" } else { "/lab/init" };
    command.arg("-append").arg(format!(
        "console=ttyS0 loglevel=5 oops=panic panic=-1 random.trust_cpu=on lab.init={init} lab.index={} {}",
        setup.index, words
    ));
    command
}
