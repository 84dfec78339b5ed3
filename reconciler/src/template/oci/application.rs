//! How an image's program is run, with names of users looked up in the image itself.
//!
//! What the specification leaves open is done as Docker does it. No program of the image is run for that, and no path in it
//! leads out of it.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use vzd_state::application::{Application, User};

use super::document::{Config, Run};
use super::error::ImageProblem;

/// Most bytes of command and environment: they are kept with each VE.
const MAX_WORDS: usize = 64 << 10;
/// Most bytes of a file of users.
const MAX_USERS: u64 = 1 << 20;

/// What is said of it; none if no command is.
pub(super) fn read(config: &Config, root: BorrowedFd<'_>) -> Result<Option<Box<Application>>, ImageProblem> {
    let Some(run) = &config.run else { return Ok(None) };
    let Run { entrypoint, cmd, env, working_dir, user, stop_signal } = run;
    let command: Vec<String> = [entrypoint, cmd].into_iter().flatten().flatten().cloned().collect();
    if command.is_empty() {
        return Ok(None);
    }
    let mut env = env.clone().unwrap_or_default();
    let size: usize = command.iter().chain(&env).map(String::len).sum();
    let is_pair = |pair: &&String| pair.find('=').is_none_or(|at| at == 0);
    match env.iter().find(is_pair) {
        _ if size > MAX_WORDS => {
            return Err(ImageProblem::Unsupported(format!("a command and environment of {size} bytes are")));
        }
        Some(bad) => return Err(bad_config(format!("{bad:?} in Env is not NAME=value"))),
        None if command.iter().chain(&env).any(|word| word.contains('\0')) => {
            return Err(bad_config("a word of its command holds a NUL byte".to_owned()));
        }
        None => {}
    }
    let dir = working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/");
    if !dir.starts_with('/') || dir.contains('\0') {
        return Err(bad_config(format!("WorkingDir {dir:?} is not absolute")));
    }
    let found = find(user.as_deref().unwrap_or_default(), root)?;
    if !env.iter().any(|pair| pair.starts_with("HOME=")) {
        env.push(format!("HOME={}", found.home));
    }
    Ok(Some(Box::new(Application {
        command,
        env,
        dir: dir.to_owned(),
        user: Some(found.user).filter(|user| (user.uid, user.gid) != (0, 0) || !user.groups.is_empty()),
        stop_signal: stop_signal.as_deref().filter(|name| !name.is_empty()).map(signal).transpose()?,
    })))
}

struct Found {
    user: User,
    home: String,
}

/// `user`, `user:group`, either of them a name or a number. Without a group it is the user's own, with its others.
fn find(text: &str, root: BorrowedFd<'_>) -> Result<Found, ImageProblem> {
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let name = if name.is_empty() { "0" } else { name };
    let (passwd, groups) = (lines(root, "etc/passwd")?, lines(root, "etc/group")?);
    let user = passwd.iter().find(|fields| fields[0] == name || fields.get(2).is_some_and(|uid| uid == name));
    let of = |at: usize| user.and_then(|fields| fields.get(at));
    let uid = number("user", of(2).map_or(name, String::as_str))?;
    let home = of(5).filter(|home| home.starts_with('/')).map_or("/", String::as_str).to_owned();
    let (gid, others) = match group.filter(|group| !group.is_empty()) {
        Some(name) => {
            let of = groups.iter().find(|fields| fields[0] == name);
            (number("group", of.and_then(|fields| fields.get(2)).map_or(name, String::as_str))?, Vec::new())
        }
        None => {
            let member = |fields: &&Vec<String>| {
                user.is_some_and(|user| {
                    fields.get(3).is_some_and(|all| all.split(',').any(|one| one == user[0]))
                })
            };
            let gids = groups.iter().filter(member).filter_map(|fields| fields.get(2));
            let others = gids.map(|gid| number("group", gid)).collect::<Result<_, _>>()?;
            (number("group", of(3).map_or("0", String::as_str))?, others)
        }
    };
    Ok(Found { user: User { uid, gid, groups: others }, home })
}

fn number(what: &str, text: &str) -> Result<u32, ImageProblem> {
    match text.parse::<u32>() {
        Ok(id) if id <= u32::from(u16::MAX) => Ok(id),
        Ok(id) => Err(bad_config(format!("the id {id} of its {what} is outside 0..65535"))),
        Err(_) => Err(bad_config(format!("its {what} {text:?} is not in the image"))),
    }
}

/// The lines of a file of the image by their fields; none if there is no such file.
fn lines(root: BorrowedFd<'_>, path: &str) -> Result<Vec<Vec<String>>, ImageProblem> {
    let failed = |e: Errno| ImageProblem::sys(format!("read /{path} of the image"), e);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let fd = loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Anything on the host was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            done => break done.map_err(failed)?,
        }
    };
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(failed(Errno::INVAL));
    }
    let mut bytes = Vec::new();
    let read = File::from(fd).take(MAX_USERS).read_to_end(&mut bytes);
    read.map_err(|e| ImageProblem::sys(format!("read /{path} of the image"), e))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
fn signal(name: &str) -> Result<i32, ImageProblem> {
    /// glibc keeps the first two real-time signals to itself.
    const RTMIN: i32 = 34;
    const LAST: i32 = 64;
    let short = name.strip_prefix("SIG").unwrap_or(name);
    let number = match short.strip_prefix("RTMIN") {
        Some("") => Some(RTMIN),
        Some(more) => {
            more.strip_prefix('+').and_then(|n| n.parse::<i32>().ok()).map(|n| RTMIN.saturating_add(n))
        }
        None => short.parse().ok().or_else(|| {
            format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
        }),
    };
    let known = number.filter(|number| (1..=LAST).contains(number));
    known.ok_or_else(|| bad_config(format!("its StopSignal {name:?} is none")))
}

fn bad_config(why: String) -> ImageProblem {
    ImageProblem::Document { what: "the configuration", why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn run(config: &str, files: &[(&str, &str)]) -> Result<Option<Application>, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join("etc").join(name), text).unwrap();
        }
        let config = format!(r#"{{"architecture":"amd64","os":"linux","config":{config}}}"#);
        let config = Config::read(config.as_bytes()).map_err(|e| e.to_string())?;
        let root = File::open(root.path()).unwrap();
        read(&config, root.as_fd()).map(|is| is.map(|is| *is)).map_err(|e| e.to_string())
    }

    const FILES: [(&str, &str); 2] = [
        ("passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n"),
        ("group", "root:x:0:\nweb:x:34:\nlog:x:4:web,root\ntty:x:5:web\n"),
    ];

    #[test]
    fn commands_and_surroundings() {
        assert_eq!(run("null", &[]).unwrap(), None);
        assert_eq!(run("{}", &[]).unwrap(), None);
        assert_eq!(run(r#"{"Env":["A=1"],"Cmd":[],"Entrypoint":null}"#, &[]).unwrap(), None);
        let whole = r#"{"Entrypoint":["/app"],"Cmd":["-v"],"Env":["A=1","HOME=/h"],"WorkingDir":"/w","StopSignal":"SIGQUIT"}"#;
        let is = run(whole, &[]).unwrap().unwrap();
        assert_eq!(
            (is.command, is.env, is.dir),
            (vec!["/app".into(), "-v".into()], vec!["A=1".into(), "HOME=/h".into()], "/w".into())
        );
        assert_eq!((is.user, is.stop_signal), (None, Some(3)));
        let is = run(r#"{"Cmd":["sh"],"User":"web"}"#, &FILES).unwrap().unwrap();
        assert_eq!((is.env, is.dir.as_str()), (vec!["HOME=/srv".into()], "/"));
        for bad in [
            r#"{"Cmd":["sh"],"Env":["A"]}"#,
            r#"{"Cmd":["sh"],"Env":["=1"]}"#,
            r#"{"Cmd":["sh"],"WorkingDir":"w"}"#,
            r#"{"Cmd":["s\u0000h"]}"#,
            r#"{"Cmd":"sh"}"#,
            r#"{"Cmd":["sh"],"StopSignal":"SIGNONE"}"#,
            &format!(r#"{{"Cmd":["{}"]}}"#, "x".repeat(MAX_WORDS + 1)),
        ] {
            run(bad, &[]).unwrap_err();
        }
    }

    #[test]
    fn users_are_looked_up() {
        let user = |text: &str| {
            let config = format!(r#"{{"Cmd":["sh"],"User":"{text}"}}"#);
            Ok::<_, String>(run(&config, &FILES)?.unwrap().user.map(|is| (is.uid, is.gid, is.groups)))
        };
        for (text, is) in [
            ("", Some((0, 0, vec![4]))),
            ("web", Some((33, 34, vec![4, 5]))),
            ("33", Some((33, 34, vec![4, 5]))),
            ("web:log", Some((33, 4, vec![]))),
            ("1000", Some((1000, 0, vec![]))),
            ("1000:1001", Some((1000, 1001, vec![]))),
            ("root:0", None),
        ] {
            assert_eq!(user(text).unwrap(), is, "{text}");
        }
        for bad in ["nobody", "web:none", "65536", "0:70000", "-1"] {
            user(bad).unwrap_err();
        }
    }

    #[test]
    fn signals_have_names() {
        for (name, number) in [("SIGTERM", 15), ("TERM", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMIN", 34)] {
            assert_eq!(signal(name).unwrap(), number);
        }
        for bad in ["", "0", "65", "SIGRTMIN+31", "SIGRTMIN-1", "none"] {
            signal(bad).unwrap_err();
        }
    }
}
