//! Kinds that the standard library can make.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::{Look, ensure};

/// With bytes that nobody has read yet.
pub(super) fn pipe() -> io::Result<Look> {
    let (mut reader, mut writer) = io::pipe()?;
    writer.write_all(b"before")?;
    Ok(Box::new(move || {
        writer.write_all(b" after")?;
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        ensure(text == "before after", text)
    }))
}

pub(super) fn unix_pair() -> io::Result<Look> {
    let (mut one, mut other) = UnixStream::pair()?;
    one.write_all(b"before")?;
    Ok(Box::new(move || {
        one.write_all(b" after")?;
        drop(one);
        let mut text = String::new();
        other.read_to_string(&mut text)?;
        ensure(text == "before after", text)
    }))
}

pub(super) fn unix_listener() -> io::Result<Look> {
    const PATH: &str = "/run/keep.sock";
    let listener = UnixListener::bind(PATH)?;
    Ok(Box::new(move || {
        UnixStream::connect(PATH)?.write_all(b"hello")?;
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        ensure(text == "hello", text)
    }))
}

pub(super) fn udp() -> io::Result<Look> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::]:0")?);
    let (address, port) = (one.local_addr()?, other.local_addr()?.port());
    one.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    Ok(Box::new(move || {
        ensure(one.local_addr()? == address && other.local_addr()?.port() == port, "its address")?;
        one.send_to(b"hello", address)?;
        let mut bytes = [0; 8];
        ensure(one.recv(&mut bytes)? == 5, "its datagram")
    }))
}

pub(super) fn tcp_listener() -> io::Result<Look> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    Ok(Box::new(move || {
        TcpStream::connect(address)?.write_all(b"hello")?;
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        ensure(text == "hello", text)
    }))
}

fn read_write(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
}

/// In the middle of it.
pub(super) fn open_file() -> io::Result<Look> {
    let mut file = read_write("/root/keep.file")?;
    file.write_all(b"0123456789")?;
    file.seek(io::SeekFrom::Start(4))?;
    Ok(Box::new(move || {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        ensure(text == "456789", text)
    }))
}

pub(super) fn deleted_file() -> io::Result<Look> {
    let mut file = read_write("/root/keep.deleted")?;
    file.write_all(&[7; 100_000])?;
    std::fs::remove_file("/root/keep.deleted")?;
    Ok(Box::new(move || {
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        ensure(bytes == [7; 100_000], format_args!("{} bytes", bytes.len()))?;
        ensure(!std::fs::exists("/root/keep.deleted")?, "it has a name again")
    }))
}

pub(super) fn flock() -> io::Result<Look> {
    let file = read_write("/root/keep.flock")?;
    file.lock()?;
    Ok(Box::new(move || {
        let other = File::open("/root/keep.flock")?;
        ensure(matches!(other.try_lock(), Err(TryLockError::WouldBlock)), "nobody has it locked")?;
        drop(file);
        other.try_lock().map_err(|e| io::Error::other(e.to_string()))
    }))
}

/// Each with a stack of its own, waiting.
pub(super) fn threads() -> io::Result<Look> {
    let threads: Vec<_> = (0..4_u64)
        .map(|number| {
            let (ask, asked) = mpsc::channel::<u64>();
            (ask, std::thread::spawn(move || asked.recv().map(|word| word + number).unwrap_or_default()))
        })
        .collect();
    Ok(Box::new(move || {
        for (number, (ask, thread)) in (0..).zip(threads) {
            ask.send(100).map_err(io::Error::other)?;
            let told = thread.join().unwrap_or_default();
            ensure(told == 100 + number, format_args!("thread {number} says {told}"))?;
        }
        Ok(())
    }))
}

pub(super) fn devices() -> io::Result<Look> {
    let (mut null, mut zero) = (OpenOptions::new().write(true).open("/dev/null")?, File::open("/dev/zero")?);
    let mut random = File::open("/dev/urandom")?;
    Ok(Box::new(move || {
        null.write_all(b"gone")?;
        let (mut zeros, mut bytes) = ([1; 16], [0; 64]);
        zero.read_exact(&mut zeros)?;
        random.read_exact(&mut bytes)?;
        ensure(zeros == [0; 16] && bytes != [0; 64], "a device is another one")?;
        // No rule lets it have this one, as before.
        ensure(OpenOptions::new().read(true).open("/dev/kmsg").is_err(), "it may open /dev/kmsg")
    }))
}

/// What the kernel says of this process: ids, groups, capabilities, filters, signals, limits, mask, groups of the host's, parent.
fn description() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let parts = [
        "Name",
        "Umask",
        "Tgid",
        "Ngid",
        "Pid",
        "PPid",
        "Uid",
        "Gid",
        "Groups",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
    ];
    let is_told = |line: &&str| line.split_once(':').is_some_and(|(name, _)| parts.contains(&name));
    let mut text = status.lines().filter(is_told).collect::<Vec<_>>().join("\n");
    for name in ["limits", "cgroup", "oom_score_adj", "cmdline", "environ", "comm"] {
        let told = std::fs::read_to_string(format!("/proc/self/{name}"))?;
        // What has come from outside is the VE's own from then on.
        text += &format!("\n{name}: {}", told.replace("/../exec", "/"));
    }
    for link in ["exe", "cwd", "root"] {
        text += &format!("\n{link}: {}", std::fs::read_link(format!("/proc/self/{link}"))?.display());
    }
    text += &format!("\nhostname: {}", std::fs::read_to_string("/proc/sys/kernel/hostname")?);
    Ok(text)
}

pub(super) fn process() -> io::Result<Look> {
    std::env::set_current_dir("/usr")?;
    std::fs::write("/proc/self/oom_score_adj", "300")?;
    let before = description()?;
    Ok(Box::new(move || {
        let after = description()?;
        let other: Vec<_> = before.lines().zip(after.lines()).filter(|(was, is)| was != is).collect();
        ensure(before == after, format_args!("{other:?}"))
    }))
}

/// One that waits for a word, answers, and ends with a code.
pub(super) fn child() -> io::Result<Look> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read word; echo $word $$; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = child.id();
    Ok(Box::new(move || {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(b"hello\n")?;
        }
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        ensure(line == format!("hello {pid}\n"), line)?;
        let status = child.wait()?;
        ensure(status.code() == Some(7), status)
    }))
}
