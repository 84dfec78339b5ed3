//! Probes of a process's own limits and priority, which the VE must not raise. They act on the probe's process only.

use super::Probe;
use super::outcome::{Outcome, judge, worst};
use crate::sys::{Arg, Block, Errno, call};

pub(super) const PROBES: &[Probe] = &[
    Probe::refused("rlimit-raise", "raise each hard limit by one", rlimits),
    Probe::refused("realtime", "become a real-time process", realtime),
    Probe::refused("nice", "set the priority to -10", || {
        judge(call(libc::SYS_setpriority, [Arg::Int(0), Arg::Int(0), Arg::Int(-10)]))
    }),
    Probe::refused("ioprio-realtime", "set the real-time class of disk priority", || {
        const CLASS_REALTIME: i64 = 1 << 13;
        judge(call(libc::SYS_ioprio_set, [Arg::Int(1), Arg::Int(0), Arg::Int(CLASS_REALTIME | 4)]))
    }),
    Probe::refused("oom-score", "lower oom_score_adj below what the VE was started with", oom_score),
    Probe::allowed("mlock", "lock a page in memory, within the limit", mlock),
];

fn rlimits() -> Outcome {
    const COUNT: i64 = 16;
    worst((0..COUNT).filter_map(|resource| {
        let mut limits = Block::new();
        let get = [Arg::Int(0), Arg::Int(resource), Arg::Null, Arg::Block(&mut limits)];
        call(libc::SYS_prlimit64, get).ok()?;
        let hard = u64::from(limits.get_u32(8)) | u64::from(limits.get_u32(12)) << 32;
        let raised = hard.checked_add(1).filter(|raised| *raised != libc::RLIM_INFINITY)?;
        limits.put_u64(8, raised);
        let set = [Arg::Int(0), Arg::Int(resource), Arg::Block(&mut limits), Arg::Null];
        Some((format!("resource {resource}"), judge(call(libc::SYS_prlimit64, set))))
    }))
}

fn realtime() -> Outcome {
    worst([("SCHED_FIFO", libc::SCHED_FIFO), ("SCHED_RR", libc::SCHED_RR)].map(|(name, policy)| {
        let mut priority = Block::new();
        priority.put_u32(0, 1);
        let arguments = [Arg::Int(0), Arg::Int(i64::from(policy)), Arg::Block(&mut priority)];
        (name, judge(call(libc::SYS_sched_setscheduler, arguments)))
    }))
}

fn oom_score() -> Outcome {
    const PATH: &str = "/proc/self/oom_score_adj";
    let score = std::fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<i32>().ok());
    match score {
        Some(-1000) => Outcome::allowed("already at the lowest"),
        Some(score) => match std::fs::write(PATH, (score - 1).to_string()) {
            Ok(()) => Outcome::allowed(format!("lowered from {score}")),
            Err(error) => judge(Err::<(), _>(Errno::of(&error))),
        },
        None => Outcome::absent(PATH),
    }
}

fn mlock() -> Outcome {
    let page = Block::new();
    judge(call(libc::SYS_mlock, [Arg::Int(page.address().cast_signed()), Arg::Int(4096)]))
}
