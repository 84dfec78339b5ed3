//! Users of a VE, read and changed from inside it with the rights of its root, by a child of the keeper's that may be
//! killed at any moment. No program of the VE's is run and none of its libraries is asked: the files are the
//! interface (passwd(5), lckpwdf(3), sshd(8)), and they are the same in every distribution. ADR 0019 says why.
//!
//! In a user's home the child acts as that user: what it puts there as a trap gets it nothing that it has not.

mod db;
mod files;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vzd_state::subsystem::users::{Account, digest};

use self::db::{Db, Fresh, Login};
use self::files::Dir;
use crate::error::{SysError, SysResult};
use crate::kernel::ns::Namespace;
use crate::kernel::process;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    /// Which of these users are there, and how? Those that are true are asked for their keys too.
    Look(BTreeMap<String, bool>),
    /// Make or change a user.
    Set(Box<Change>),
    /// Take a user out; its files stay.
    Remove(String),
}

/// What is changed of a user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its name.
    pub name: String,
    /// It is made if there is none.
    pub make: bool,
    /// The id of one that is made.
    pub uid: Option<u32>,
    /// The hash of its password from now on.
    pub password: Option<String>,
    /// If its hash is this one, it has no password from now on.
    pub old_password: Option<String>,
    /// Lines that its `authorized_keys` is to hold, and is not to hold any more.
    pub add_keys: BTreeSet<String>,
    /// See `add_keys`.
    pub drop_keys: BTreeSet<String>,
    /// Groups that it is to be in, and not in any more.
    pub add_groups: BTreeSet<String>,
    /// See `add_groups`.
    pub drop_groups: BTreeSet<String>,
}

/// What is seen, or that nothing had to be changed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The users that are there.
    Accounts(BTreeMap<String, Account>),
    /// Whether anything was changed.
    Changed(bool),
}

/// Joins a VE for good and does what is asked there. Only in a process that ends with it.
pub fn answer(ask: &Ask, userns: &Namespace, mntns: &Namespace) -> SysResult<Answer> {
    process::undumpable()?;
    userns.join()?;
    mntns.join()?;
    process::become_root()?;
    let etc = Dir::open("/etc")?.ok_or_else(|| SysError::refused("open", "/etc", "the VE has none"))?;
    match ask {
        Ask::Look(names) => look(&etc, names).map(Answer::Accounts),
        Ask::Set(change) => set(&etc, change).map(Answer::Changed),
        Ask::Remove(name) => {
            let _lock = etc.lock()?;
            let before = read(&etc)?;
            let mut db = before.clone();
            db.remove(name).map_err(|why| refused(name, why))?;
            write(&etc, &before, &db).map(Answer::Changed)
        }
    }
}

fn refused(name: &str, why: impl std::fmt::Display) -> SysError {
    SysError::refused("change", format_args!("user {name}"), why)
}

fn look(etc: &Dir, names: &BTreeMap<String, bool>) -> SysResult<BTreeMap<String, Account>> {
    let db = read(etc)?;
    let mut accounts = BTreeMap::new();
    for (name, with_keys) in names {
        let Some(login) = db.login(name).map_err(|why| SysError::refused("read", "/etc/passwd", why))? else {
            continue;
        };
        let keys = if *with_keys { as_user(&login, || keys(&login))? } else { Vec::new() };
        let account = Account {
            uid: login.uid,
            password: digest(&login.password),
            keys: keys.iter().map(|line| digest(line)).collect(),
            groups: db.groups(name, login.gid),
        };
        accounts.insert(name.clone(), account);
    }
    Ok(accounts)
}

fn read(etc: &Dir) -> SysResult<Db> {
    Ok(Db {
        passwd: etc.read("passwd")?,
        shadow: etc.read("shadow")?,
        group: etc.read("group")?,
        gshadow: etc.read("gshadow")?,
    })
}

/// Writes what differs: groups before the users that are in them, a user before its password.
fn write(etc: &Dir, before: &Db, after: &Db) -> SysResult<bool> {
    let files = [
        ("group", &before.group, &after.group, 0o644),
        ("gshadow", &before.gshadow, &after.gshadow, 0o600),
        ("passwd", &before.passwd, &after.passwd, 0o644),
        ("shadow", &before.shadow, &after.shadow, 0o600),
    ];
    for (name, before, after, mode) in files {
        if let Some(lines) = after.as_ref().filter(|_| before != after) {
            etc.replace(name, lines, mode)?;
        }
    }
    Ok(before != after)
}

fn set(etc: &Dir, change: &Change) -> SysResult<bool> {
    let owner = |home: &str| Dir::open(home).ok()??.owner().ok();
    let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| files::is_program(shell));
    let fresh = Fresh { home_owner: &owner, shell: shell.unwrap_or("/bin/sh") };
    let lock = etc.lock()?;
    let before = read(etc)?;
    let mut db = before.clone();
    let login = db.set(change, &fresh).map_err(|why| refused(&change.name, why))?;
    if change.make {
        // Before the user is there: one that is cut short here is made again.
        make_home(etc, &login)?;
    }
    let mut changed = write(etc, &before, &db)?;
    drop(lock);
    if !change.add_keys.is_empty() || !change.drop_keys.is_empty() {
        changed |= as_user(&login, || set_keys(&login, change))?;
    }
    Ok(changed)
}

/// Makes a home that is not there, with the files that every new one gets.
fn make_home(etc: &Dir, login: &Login) -> SysResult<()> {
    const MOST_FILES: usize = 64;
    if Dir::open(&login.home)?.is_some() {
        return Ok(());
    }
    let (parent, name) =
        files::split(&login.home).ok_or_else(|| SysError::refused("make", &login.home, "it is no path"))?;
    let (above, parent_name) = files::split(parent).unwrap_or(("/", "."));
    let above =
        Dir::open(above)?.ok_or_else(|| SysError::refused("make", &login.home, "its parent is missing"))?;
    let parent = above.inner(parent_name, Some(0o755))?;
    let parent = match parent {
        Some(parent) => parent,
        None => return Err(SysError::refused("make", &login.home, "its parent is missing")),
    };
    let home = parent.inner(name, Some(0o700))?;
    parent.give(name, login.uid, login.gid)?;
    let (Some(home), Some(skel)) = (home, etc.inner("skel", None)?) else { return Ok(()) };
    for name in skel.names(MOST_FILES)? {
        if let Some(text) = skel.text(&name)? {
            as_user(login, || home.create(&name, &text, 0o644))?;
        }
    }
    Ok(())
}

/// Does something with files as a user, and with none of root's rights.
fn as_user<T>(login: &Login, body: impl FnOnce() -> SysResult<T>) -> SysResult<T> {
    process::set_fs_ids(login.uid, login.gid);
    let done = body();
    process::set_fs_ids(0, 0);
    done
}

const SSH: &str = ".ssh";
const KEYS: &str = "authorized_keys";

fn home(login: &Login) -> SysResult<Option<Dir>> {
    if !login.home.starts_with('/') {
        return Err(SysError::refused(
            "open",
            format_args!("home {:?}", login.home),
            "it is no absolute path",
        ));
    }
    Dir::open(&login.home)
}

fn keys(login: &Login) -> SysResult<Vec<String>> {
    let Some(home) = home(login)? else { return Ok(Vec::new()) };
    let Some(ssh) = home.inner(SSH, None)? else { return Ok(Vec::new()) };
    Ok(ssh.read(KEYS)?.unwrap_or_default())
}

fn set_keys(login: &Login, change: &Change) -> SysResult<bool> {
    let before = keys(login)?;
    let dropped = |line: &&String| !change.drop_keys.contains(line.trim());
    let mut after: Vec<String> = before.iter().filter(dropped).cloned().collect();
    let missing = change.add_keys.iter().filter(|key| !before.iter().any(|line| line.trim() == *key));
    after.extend(missing.cloned());
    if before == after {
        return Ok(false);
    }
    let home = home(login)?;
    let home = home.ok_or_else(|| SysError::refused("open", &login.home, "there is no such directory"))?;
    let ssh = home.inner(SSH, Some(0o700))?;
    let ssh = ssh.ok_or_else(|| SysError::refused("open", SSH, "it has just gone"))?;
    ssh.replace(KEYS, &after, 0o600)?;
    Ok(true)
}
