//! The text of /etc/passwd, shadow, group and gshadow (passwd(5), shadow(5), group(5), gshadow(5)), and what a change
//! of one user makes of it. It knows no files; lines that it has no reason to touch stay as they are.

use std::collections::BTreeSet;

use super::Change;

/// Ids of people, and of the groups that are made for them (login.defs(5): UID_MIN, UID_MAX).
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=59_999;
/// Ids of groups that a manifest names and that are not there yet (SYS_GID_MIN, SYS_GID_MAX).
const SYSTEM: std::ops::RangeInclusive<u32> = 100..=999;

/// The four files; `None` is one that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Db {
    pub passwd: Option<Lines>,
    pub shadow: Option<Lines>,
    pub group: Option<Lines>,
    pub gshadow: Option<Lines>,
}

/// Lines without their ends.
pub type Lines = Vec<String>;

/// How a user logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// The field of /etc/shadow, or of /etc/passwd where that says it itself.
    pub password: String,
}

/// What a new user is made with.
pub struct Fresh<'a> {
    /// The owner of its home, if that is there already.
    pub home_owner: &'a dyn Fn(&str) -> Option<u32>,
    pub shell: &'a str,
}

fn field(line: &str, at: usize) -> Option<&str> {
    line.split(':').nth(at)
}

fn set_field(line: &mut String, at: usize, value: &str) {
    let mut fields: Vec<&str> = line.split(':').collect();
    if let Some(place) = fields.get_mut(at) {
        *place = value;
        *line = fields.join(":");
    }
}

fn named<'l>(lines: Option<&'l Lines>, name: &str) -> Option<&'l String> {
    lines?.iter().find(|line| field(line, 0) == Some(name))
}

fn named_mut<'l>(lines: Option<&'l mut Lines>, name: &str) -> Option<&'l mut String> {
    lines?.iter_mut().find(|line| field(line, 0) == Some(name))
}

fn members(line: &str) -> BTreeSet<&str> {
    field(line, 3).unwrap_or_default().split(',').filter(|name| !name.is_empty()).collect()
}

/// Puts a name into the list of members, or takes it out, and leaves the order of the others.
fn set_member(line: &mut String, at: usize, name: &str, is: bool) {
    let list = field(line, at).unwrap_or_default();
    let mut names: Vec<&str> = list.split(',').filter(|other| !other.is_empty()).collect();
    if is == names.contains(&name) {
        return;
    }
    if is {
        names.push(name);
    } else {
        names.retain(|other| *other != name);
    }
    let list = names.join(",");
    set_field(line, at, &list);
}

impl Db {
    /// A user, if it is there.
    pub fn login(&self, name: &str) -> Result<Option<Login>, String> {
        let Some(line) = named(self.passwd.as_ref(), name) else { return Ok(None) };
        let number = |at| field(line, at).and_then(|text| text.parse().ok());
        let (Some(uid), Some(gid)) = (number(2), number(3)) else {
            return Err(format!("the line of {name} has no uid or no gid"));
        };
        let own = field(line, 1).unwrap_or_default();
        let shadow = named(self.shadow.as_ref(), name).and_then(|line| field(line, 1));
        let password = if own == "x" { shadow.unwrap_or("*") } else { own };
        let home = field(line, 5).unwrap_or_default().to_owned();
        Ok(Some(Login { uid, gid, home, password: password.to_owned() }))
    }

    /// The groups that a user is in, the one of its line too.
    pub fn groups(&self, name: &str, gid: u32) -> BTreeSet<String> {
        let gid = gid.to_string();
        let lines = self.group.iter().flatten();
        lines
            .filter(|line| field(line, 2) == Some(&gid) || members(line).contains(name))
            .filter_map(|line| field(line, 0).map(str::to_owned))
            .collect()
    }

    /// Makes the user if there is none and that is wanted, then gives it what the change says.
    pub fn set(&mut self, change: &Change, fresh: &Fresh<'_>) -> Result<Login, String> {
        let name = &change.name;
        let login = match self.login(name)? {
            Some(login) => login,
            None if change.make => self.make(change, fresh)?,
            None => return Err(format!("there is no user {name}")),
        };
        let taken_back = change.old_password.as_ref().is_some_and(|old| *old == login.password);
        let password = change.password.clone().or_else(|| taken_back.then(|| "*".to_owned()));
        if let Some(password) = password {
            self.set_password(name, &password);
        }
        for group in &change.add_groups {
            if named(self.group.as_ref(), group).is_none() {
                let gid = self.free_gid(SYSTEM.rev()).ok_or("no group id below 1000 is free")?;
                self.add_group(group, gid);
            }
            self.set_members(group, name, true);
        }
        for group in &change.drop_groups {
            self.set_members(group, name, false);
        }
        self.login(name)?.ok_or_else(|| format!("there is no user {name}"))
    }

    /// Takes a user out, with its own group if nobody else is in that. Its files stay.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        let Some(login) = self.login(name)? else { return Ok(()) };
        for lines in [&mut self.passwd, &mut self.shadow].into_iter().flatten() {
            lines.retain(|line| field(line, 0) != Some(name));
        }
        let in_groups: Vec<String> =
            self.group.iter().flatten().filter_map(|line| field(line, 0).map(str::to_owned)).collect();
        for group in &in_groups {
            self.set_members(group, name, false);
        }
        let gid = login.gid.to_string();
        let used = self.passwd.iter().flatten().any(|line| field(line, 3) == Some(&gid));
        let own = named(self.group.as_ref(), name)
            .is_some_and(|line| field(line, 2) == Some(&gid) && members(line).is_empty());
        if own && !used {
            for lines in [&mut self.group, &mut self.gshadow].into_iter().flatten() {
                lines.retain(|line| field(line, 0) != Some(name));
            }
        }
        Ok(())
    }

    fn make(&mut self, change: &Change, fresh: &Fresh<'_>) -> Result<Login, String> {
        let name = &change.name;
        let root = name == "root";
        let home = if root { "/root".to_owned() } else { format!("/home/{name}") };
        let taken: BTreeSet<u32> = self.ids(self.passwd.as_ref());
        let uid = match change.uid {
            Some(uid) if taken.contains(&uid) => return Err(format!("uid {uid} is another user's")),
            Some(uid) => uid,
            None if root => 0,
            // Whose files are there already, and nobody else's.
            None => (fresh.home_owner)(&home)
                .filter(|owner| PEOPLE.contains(owner) && !taken.contains(owner))
                .or_else(|| next(&taken))
                .ok_or("no uid is free")?,
        };
        let group = named(self.group.as_ref(), name).and_then(|line| field(line, 2)?.parse().ok());
        let gid = match group {
            Some(gid) => gid,
            None => {
                let gids = self.ids(self.group.as_ref());
                let gid = Some(uid).filter(|gid| !gids.contains(gid)).or_else(|| next(&gids));
                let gid = gid.ok_or("no group id is free")?;
                self.add_group(name, gid);
                gid
            }
        };
        let shell = fresh.shell;
        let line = format!("{name}:x:{uid}:{gid}::{home}:{shell}");
        self.passwd.get_or_insert_default().push(line);
        self.set_password(name, "*");
        Ok(Login { uid, gid, home, password: "*".to_owned() })
    }

    fn ids(&self, lines: Option<&Lines>) -> BTreeSet<u32> {
        lines.into_iter().flatten().filter_map(|line| field(line, 2)?.parse().ok()).collect()
    }

    fn free_gid(&self, mut range: impl Iterator<Item = u32>) -> Option<u32> {
        let taken = self.ids(self.group.as_ref());
        range.find(|gid| !taken.contains(gid))
    }

    fn add_group(&mut self, name: &str, gid: u32) {
        self.group.get_or_insert_default().push(format!("{name}:x:{gid}:"));
        if let Some(lines) = &mut self.gshadow {
            lines.push(format!("{name}:!::"));
        }
    }

    fn set_members(&mut self, group: &str, name: &str, is: bool) {
        for lines in [self.group.as_mut(), self.gshadow.as_mut()] {
            if let Some(line) = named_mut(lines, group) {
                set_member(line, 3, name, is);
            }
        }
    }

    /// Into /etc/shadow, wherever it was.
    fn set_password(&mut self, name: &str, password: &str) {
        if let Some(line) = named_mut(self.passwd.as_mut(), name) {
            set_field(line, 1, "x");
        }
        let shadow = self.shadow.get_or_insert_default();
        match named_mut(Some(shadow), name) {
            Some(line) => set_field(line, 1, password),
            None => shadow.push(format!("{name}:{password}::0:99999:7:::")),
        }
    }
}

/// One more than the highest that people have, else the lowest that is free (as useradd does).
fn next(taken: &BTreeSet<u32>) -> Option<u32> {
    let highest = taken.range(PEOPLE).next_back().map_or(*PEOPLE.start(), |highest| highest + 1);
    Some(highest).filter(|id| PEOPLE.contains(id)).or_else(|| PEOPLE.clone().find(|id| !taken.contains(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Option<Lines> {
        Some(text.lines().map(str::to_owned).collect())
    }

    fn debian() -> Db {
        Db {
            passwd: lines(
                "root:x:0:0:root:/root:/bin/bash\n# a note\nbob:x:1000:1000::/home/bob:/bin/sh\n+::::::",
            ),
            shadow: lines("root:*:19000:0:99999:7:::\nbob:$y$1$2:19000:0:99999:7:::"),
            group: lines("root:x:0:\nadm:x:4:bob\nbob:x:1000:\ndocker:x:999:"),
            gshadow: lines("root:*::\nadm:*::bob\nbob:!::\ndocker:!::"),
        }
    }

    fn fresh() -> Fresh<'static> {
        Fresh { home_owner: &|_| None, shell: "/bin/sh" }
    }

    fn make(name: &str) -> Change {
        Change { name: name.to_owned(), make: true, ..Change::default() }
    }

    #[test]
    fn a_user_is_made_changed_and_removed_and_nothing_else_is_touched() {
        let (before, mut db) = (debian(), debian());
        let groups = ["adm".to_owned(), "ops".to_owned()].into();
        let change = Change { password: Some("$y$a$b".to_owned()), add_groups: groups, ..make("alice") };
        let login = db.set(&change, &fresh()).unwrap();
        assert_eq!(
            login,
            Login { uid: 1001, gid: 1001, home: "/home/alice".into(), password: "$y$a$b".into() }
        );
        assert_eq!(db.groups("alice", 1001), ["adm", "alice", "ops"].map(str::to_owned).into());
        assert!(db.group.as_ref().unwrap().contains(&"adm:x:4:bob,alice".to_owned()));
        assert!(db.gshadow.as_ref().unwrap().contains(&"adm:*::bob,alice".to_owned()));
        assert!(db.group.as_ref().unwrap().contains(&"ops:x:998:alice".to_owned()), "{db:?}");
        let once = db.clone();
        db.set(&change, &fresh()).unwrap();
        assert_eq!(db, once, "twice is once");
        db.remove("alice").unwrap();
        db.group.as_mut().unwrap().retain(|line| !line.starts_with("ops:"));
        db.gshadow.as_mut().unwrap().retain(|line| !line.starts_with("ops:"));
        assert_eq!(db, before);
    }

    #[test]
    fn ids_are_chosen_as_useradd_does_and_never_taken_twice() {
        let mut db = debian();
        assert!(db.set(&Change { uid: Some(1000), ..make("alice") }, &fresh()).unwrap_err().contains("1000"));
        let of_home = Fresh { home_owner: &|_| Some(4000), shell: "/bin/sh" };
        assert_eq!(db.set(&make("carol"), &of_home).unwrap().uid, 4000);
        assert_eq!(db.set(&make("dave"), &of_home).unwrap().uid, 4001);
        let of_root = Fresh { home_owner: &|_| Some(0), shell: "/bin/sh" };
        assert_eq!(db.set(&make("erin"), &of_root).unwrap().uid, 4002);
        // A group of the name is taken as its own.
        assert_eq!(db.set(&make("docker"), &fresh()).unwrap().gid, 999);
        let missing = Change { make: false, ..make("nobody-there") };
        assert_eq!(db.set(&missing, &fresh()).unwrap_err(), "there is no user nobody-there");
    }

    #[test]
    fn a_password_is_taken_back_only_if_it_is_the_one_that_was_set() {
        for (old, then) in [("$y$1$2", "*"), ("$y$other", "$y$1$2")] {
            let mut db = debian();
            let change = Change { name: "bob".into(), old_password: Some(old.into()), ..Change::default() };
            assert_eq!(db.set(&change, &fresh()).unwrap().password, then);
        }
    }

    #[test]
    fn a_root_without_shadow_or_any_file_gets_what_it_needs() {
        let mut db = Db { passwd: lines("root::0:0::/:/bin/sh"), ..Db::default() };
        assert_eq!(db.login("root").unwrap().unwrap().password, "");
        let change = Change { name: "root".into(), password: Some("$y$a$b".into()), ..Change::default() };
        db.set(&change, &fresh()).unwrap();
        assert_eq!(db.passwd, lines("root:x:0:0::/:/bin/sh"));
        assert_eq!(db.shadow, lines("root:$y$a$b::0:99999:7:::"));
        let mut none = Db::default();
        assert_eq!(none.set(&make("root"), &fresh()).unwrap().uid, 0);
        assert_eq!(none.set(&make("alice"), &fresh()).unwrap().uid, 1000);
    }
}
