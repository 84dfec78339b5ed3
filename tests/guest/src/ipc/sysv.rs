//! System V shared memory, semaphores and message queues. Must leave objects behind: they outlive the process on purpose.

use super::{Answer, Verb};
use crate::sys::{Arg, Errno, call};

/// A shared memory segment of one page.
pub(super) fn segment(verb: Verb, key: i32) -> Answer {
    run(verb, |flags| get(libc::SYS_shmget, [key, 4096, flags]), |id| control(libc::SYS_shmctl, id, 1))
}

/// A set of one semaphore.
pub(super) fn semaphore(verb: Verb, key: i32) -> Answer {
    run(verb, |flags| get(libc::SYS_semget, [key, 1, flags]), |id| control(libc::SYS_semctl, id, 2))
}

/// A message queue.
pub(super) fn queue(verb: Verb, key: i32) -> Answer {
    run(verb, |flags| get(libc::SYS_msgget, [key, flags, 0]), |id| control(libc::SYS_msgctl, id, 1))
}

fn run(
    verb: Verb,
    get: impl Fn(i32) -> Result<i64, Errno>,
    remove: impl Fn(i64) -> Result<(), Errno>,
) -> Answer {
    let id = |id: i64| Some(format!("id {id}"));
    match verb {
        Verb::Create | Verb::Hold => Ok(("created", id(get(libc::IPC_CREAT | libc::IPC_EXCL | 0o600)?))),
        Verb::Lookup => Ok(("found", id(get(0)?))),
        Verb::Remove => {
            remove(get(0)?)?;
            Ok(("removed", None))
        }
    }
}

fn get(number: i64, arguments: [i32; 3]) -> Result<i64, Errno> {
    call(number, arguments.map(|argument| Arg::Int(i64::from(argument))))
}

/// IPC_RMID; the command is the second or the third argument.
fn control(number: i64, id: i64, place: usize) -> Result<(), Errno> {
    let mut arguments = [id, 0, 0, 0];
    arguments[place] = i64::from(libc::IPC_RMID);
    call(number, arguments.map(Arg::Int)).map(drop)
}
