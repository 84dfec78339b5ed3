//! Users inside a VE: who is to be there, with which password, keys and groups.
//!
//! They live in the VE's root and outlast its runs, so what was set is kept in the ledger for as long as the root is.
//! Users that nobody wanted and vzd never made are the VE's owner's, and left alone; so are keys and groups
//! that the owner gave to a user of the manifest's. No password is held in what is seen, only digests.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Changes, Cx, Mismatch, Subsystem};
use crate::digest::sha256_hex;
use crate::disruption::{Cause, Change, Disruption};
use crate::reading::Reading;

/// The users that are wanted, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Desired {
    /// By name.
    pub users: BTreeMap<String, User>,
}

/// A user that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The password as a hash of crypt(5); none leaves it as it is, and a new user without one.
    pub password: Option<String>,
    /// Lines that `authorized_keys` is to hold.
    pub keys: BTreeSet<String>,
    /// The id inside the VE; none takes the next free one.
    pub uid: Option<u32>,
    /// Groups beside the user's own.
    pub groups: BTreeSet<String>,
}

/// A user as it was last set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Applied {
    /// There was none of this name before.
    pub made: bool,
    /// What was set.
    pub user: User,
}

/// What is seen; absent for a VE that doesn't run, and of no account that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Accounts by name: those that are wanted or were set, and are there.
    pub accounts: Reading<BTreeMap<String, Account>>,
}

/// A user that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The id inside the VE.
    pub uid: u32,
    /// The [`digest`] of the password's hash.
    pub password: String,
    /// The [`digest`] of each line of `authorized_keys`.
    pub keys: BTreeSet<String>,
    /// The groups that it is in, its own one too.
    pub groups: BTreeSet<String>,
}

impl Observed {
    /// What would be seen of a VE whose root has none of the users.
    pub(crate) fn nothing() -> Self {
        Self { accounts: Reading::Is(BTreeMap::new()) }
    }
}

/// By what a secret or a long line is known again.
pub fn digest(text: &str) -> String {
    let mut digest = sha256_hex(text.trim().as_bytes());
    digest.truncate(32);
    digest
}

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Make a user, or change one.
    SetUser {
        /// The name.
        name: String,
        /// What was last set, if anything was.
        from: Option<User>,
        /// vzd makes it, or has made it.
        made: bool,
        /// What to set.
        to: User,
    },
    /// Take a user away, or of one that was there before all that was set.
    RemoveUser {
        /// The name.
        name: String,
        /// What was set.
        had: Applied,
    },
}

/// The subsystem.
#[derive(Debug)]
pub struct Users;

impl Subsystem for Users {
    type Desired = Desired;
    type Observed = Observed;
    type Live = Live;
    type Cold = Infallible;

    fn diff(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Changes<Live, Infallible> {
        let Desired { users } = want;
        let Observed { accounts } = have;
        let mut changes = Changes::default();
        let seen = match accounts {
            Reading::Unreadable(why) => {
                changes.cannot_read("spec.users", why);
                return changes;
            }
            Reading::Absent => return changes,
            Reading::Is(seen) => seen,
        };
        let none = BTreeMap::new();
        let applied = cx.entry.map_or(&none, |entry| &entry.applied.users);
        for (name, had) in applied {
            let left = seen.get(name).is_some_and(|account| had.made || account.has_any(&had.user));
            if users.contains_key(name) || !left {
                continue;
            }
            let index =
                changes.field(Change::new(field(name), had.user.shown(), Value::Null, Disruption::Live));
            changes.live.push((Live::RemoveUser { name: name.clone(), had: had.clone() }, vec![index]));
        }
        for (name, to) in users {
            diff_user(&mut changes, name, to, seen.get(name), applied.get(name));
        }
        changes
    }

    fn satisfied(want: &Desired, have: &Observed, cx: &Cx<'_>) -> Vec<Mismatch> {
        let Desired { users } = want;
        let Observed { accounts } = have;
        let applied = |name| cx.entry.and_then(|entry| entry.applied.users.get(name));
        let wrong = users.iter().filter_map(|(name, user)| {
            let account = accounts.is().and_then(|seen| seen.get(name));
            let had = applied(name).map(|applied| &applied.user);
            let as_wanted = account.is_some_and(|account| {
                account.is_as(user, had) && user.uid.is_none_or(|uid| uid == account.uid)
            });
            let seen = account.map_or(Value::Null, |account| account.shown(user));
            (!as_wanted).then(|| Mismatch::new(field(name), user.shown(), seen, Disruption::Live))
        });
        wrong.collect()
    }
}

fn field(name: &str) -> String {
    format!("spec.users[{name}]")
}

fn diff_user(
    changes: &mut Changes<Live, Infallible>,
    name: &str,
    to: &User,
    seen: Option<&Account>,
    applied: Option<&Applied>,
) {
    let had = applied.map(|applied| &applied.user);
    let cause = if had == Some(to) { Cause::Drift } else { Cause::Spec };
    let before = match seen {
        None => Value::Null,
        Some(account) => {
            if let Some(uid) = to.uid.filter(|uid| *uid != account.uid) {
                let why = "a user keeps its uid: its files bear it; take the user out of the VE first";
                changes.field(
                    Change::new(
                        format!("{}.uid", field(name)),
                        account.uid.into(),
                        uid.into(),
                        Disruption::Live,
                    )
                    .because(cause)
                    .unless(Some(why)),
                );
            }
            if account.is_as(to, had) {
                return;
            }
            match had {
                Some(had) if had != to => had.shown(),
                _ => account.shown(to),
            }
        }
    };
    let index = changes.field(Change::new(field(name), before, to.shown(), Disruption::Live).because(cause));
    let made = seen.is_none() || applied.is_some_and(|applied| applied.made);
    let step = Live::SetUser { name: name.to_owned(), from: had.cloned(), made, to: to.clone() };
    changes.live.push((step, vec![index]));
}

/// What a plan says of a user: nobody's password.
fn shown(uid: Option<u32>, password: bool, keys: usize, groups: &BTreeSet<String>) -> Value {
    let mut shown = serde_json::Map::new();
    if let Some(uid) = uid {
        shown.insert("uid".to_owned(), uid.into());
    }
    if password {
        shown.insert("passwordHash".to_owned(), "(not shown)".into());
    }
    if keys > 0 {
        shown.insert("sshKeys".to_owned(), keys.into());
    }
    if !groups.is_empty() {
        shown.insert("groups".to_owned(), json!(groups));
    }
    Value::Object(shown)
}

impl User {
    fn shown(&self) -> Value {
        let Self { password, keys, uid, groups } = self;
        shown(*uid, password.is_some(), keys.len(), groups)
    }

    /// Also what another has: whatever a change comes to, both are vzd's.
    pub(crate) fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.keys.extend(other.keys.iter().cloned());
        both.groups.extend(other.groups.iter().cloned());
        both
    }
}

impl Account {
    /// Of what is wanted, that which is there.
    fn shown(&self, want: &User) -> Value {
        let password = want.password.as_ref().is_some_and(|hash| self.password == digest(hash));
        let keys = want.keys.iter().filter(|key| self.keys.contains(&digest(key))).count();
        let groups = want.groups.intersection(&self.groups).cloned().collect();
        shown(want.uid.map(|_| self.uid), password, keys, &groups)
    }

    /// Whether all that is wanted is there, and nothing that was set and is not wanted any more.
    fn is_as(&self, want: &User, had: Option<&User>) -> bool {
        let none = User::default();
        let had = had.unwrap_or(&none);
        let password = match (&want.password, &had.password) {
            (Some(hash), _) => self.password == digest(hash),
            (None, Some(hash)) => self.password != digest(hash),
            (None, None) => true,
        };
        let is_there = |key: &String| self.keys.contains(&digest(key));
        password
            && want.keys.iter().all(is_there)
            && !had.keys.difference(&want.keys).any(is_there)
            && want.groups.is_subset(&self.groups)
            && had.groups.difference(&want.groups).all(|group| !self.groups.contains(group))
    }

    fn has_any(&self, user: &User) -> bool {
        !self.is_as(&User::default(), Some(user))
    }
}
