//! Users inside a VE, IO half: asks a child of the keeper's that looks and writes from inside.
//!
//! Nothing of a VE is opened here, and nobody waits for one longer than [`PATIENCE`]: its root may be a file system of
//! its own that does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vzd_state::reading::Reading;
use vzd_state::subsystem::users::{Live, Observed, User};

use crate::drivers::{Effect, Running, Ve};
use crate::error::SysResult;
use crate::runtime::accounts::{Answer, Ask, Change};

/// More than reading and writing a few small files takes, on a machine that has other work to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the users that are wanted or were set. A VE that has none and never had costs nothing.
pub fn observe(ve: Ve<'_>, running: &Running) -> Observed {
    let mut names = BTreeMap::new();
    let wanted = ve.want.iter().flat_map(|want| &want.users.users);
    let applied = ve.entry.applied.users.iter().map(|(name, applied)| (name, &applied.user));
    for (name, user) in wanted.chain(applied) {
        *names.entry(name.clone()).or_default() |= !user.keys.is_empty();
    }
    if names.is_empty() {
        return Observed { accounts: Reading::Is(BTreeMap::new()) };
    }
    let accounts = match ve.host.keeper.accounts(running.pid, Ask::Look(names), PATIENCE) {
        Ok(Answer::Accounts(accounts)) => Reading::Is(accounts),
        Ok(Answer::Changed(_)) => Reading::Unreadable("the keeper answered something else".to_owned()),
        Err(e) => Reading::Unreadable(e.to_string()),
    };
    Observed { accounts }
}

/// Makes, changes or takes away a user of a running VE.
pub fn apply_live(ve: Ve<'_>, step: &Live, running: &Running) -> SysResult<Effect> {
    let none = User::default();
    let ask = match step {
        Live::SetUser { name, from, made, to } => {
            Ask::Set(Box::new(change(name, from.as_ref().unwrap_or(&none), to, *made)))
        }
        Live::RemoveUser { name, had } if had.made => Ask::Remove(name.clone()),
        Live::RemoveUser { name, had } => Ask::Set(Box::new(change(name, &had.user, &none, false))),
    };
    let answer = ve.host.keeper.accounts(running.pid, ask, PATIENCE)?;
    Ok(if matches!(answer, Answer::Changed(true)) { Effect::Changed } else { Effect::AlreadySo })
}

fn change(name: &str, from: &User, to: &User, make: bool) -> Change {
    let gone = |from: &BTreeSet<String>, to: &BTreeSet<String>| from.difference(to).cloned().collect();
    Change {
        name: name.to_owned(),
        make,
        uid: to.uid,
        password: to.password.clone(),
        old_password: from.password.clone().filter(|_| to.password.is_none()),
        add_keys: to.keys.clone(),
        drop_keys: gone(&from.keys, &to.keys),
        add_groups: to.groups.clone(),
        drop_groups: gone(&from.groups, &to.groups),
    }
}
