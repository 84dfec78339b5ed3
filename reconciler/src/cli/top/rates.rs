//! Two looks at VEs as one row each: what happened in between, per second. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use vzd_schema::v1::Size;
use vzd_state::subsystem::beancounters::Counter;

use crate::control::{VeState, VeUsage};

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Most CPU time first.
    Cpu,
    /// Most memory first.
    Memory,
    /// Most bytes read and written first.
    Io,
    /// Most processes first.
    Processes,
    /// Most refusals first.
    Failures,
    /// By name.
    Name,
}

/// One VE.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub name: String,
    /// The number that OpenVZ's tools know it by.
    pub ctid: Option<u32>,
    /// What it does.
    pub state: VeState,
    /// Whether it is as its manifest wants it.
    pub ready: bool,
    /// CPU time, in percent of one CPU.
    pub cpu_percent: Option<f64>,
    /// Memory charged to it.
    pub memory_bytes: Option<u64>,
    /// Read from block devices.
    pub read_bytes_per_second: Option<f64>,
    /// Written to block devices.
    pub written_bytes_per_second: Option<f64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Counters that refused something since the look before, and how often.
    pub failing: BTreeMap<Counter, u64>,
    /// Refusals since the VE's start, of all counters.
    pub failures: u64,
}

/// The rows of a look, compared with the one before.
pub fn rows(before: &[VeUsage], now: &[VeUsage], sort: Sort, reverse: bool) -> Vec<Row> {
    let before: BTreeMap<&str, &VeUsage> = before.iter().map(|ve| (ve.name.as_str(), ve)).collect();
    let mut rows: Vec<Row> = now.iter().map(|ve| row(before.get(ve.name.as_str()).copied(), ve)).collect();
    rows.sort_by(|a, b| {
        let order = compare(a, b, sort).then_with(|| a.name.cmp(&b.name));
        if reverse { order.reverse() } else { order }
    });
    rows
}

fn compare(a: &Row, b: &Row, sort: Sort) -> Ordering {
    let io =
        |row: &Row| row.read_bytes_per_second.unwrap_or(0.0) + row.written_bytes_per_second.unwrap_or(0.0);
    let refused = |row: &Row| (row.failing.values().sum::<u64>(), row.failures);
    match sort {
        Sort::Cpu => b.cpu_percent.unwrap_or(0.0).total_cmp(&a.cpu_percent.unwrap_or(0.0)),
        Sort::Memory => b.memory_bytes.cmp(&a.memory_bytes),
        Sort::Io => io(b).total_cmp(&io(a)),
        Sort::Processes => b.processes.cmp(&a.processes),
        Sort::Failures => refused(b).cmp(&refused(a)),
        Sort::Name => Ordering::Equal,
    }
}

fn row(before: Option<&VeUsage>, now: &VeUsage) -> Row {
    // What another run used has nothing to do with this one.
    let before = before.filter(|before| before.started_at == now.started_at && now.started_at.is_some());
    let seconds = before.map(|before| millis(now.at.since(before.at).0)).filter(|seconds| *seconds > 0.0);
    let rate = |of: fn(&VeUsage) -> Option<u64>| -> Option<f64> {
        Some(float(of(now)?.saturating_sub(of(before?)?)) / seconds?)
    };
    let failcnts = |ve: &VeUsage| -> BTreeMap<Counter, u64> {
        ve.counters.iter().map(|is| (is.name, is.failcnt)).collect()
    };
    let (were, are) = (before.map(failcnts), failcnts(now));
    let failures = are.values().sum();
    let new = |(name, is): (Counter, u64)| {
        let was = were.as_ref()?.get(&name)?;
        (is > *was).then(|| (name, is - was))
    };
    Row {
        name: now.name.clone(),
        ctid: now.ctid,
        state: now.state,
        ready: now.ready,
        cpu_percent: rate(|ve| ve.usage.cpu_usec).map(|usec| usec / 1e4),
        memory_bytes: now.usage.memory_bytes,
        read_bytes_per_second: rate(|ve| Some(ve.usage.io?.read_bytes)),
        written_bytes_per_second: rate(|ve| Some(ve.usage.io?.written_bytes)),
        processes: now.usage.tasks,
        failing: are.into_iter().filter_map(new).collect(),
        failures,
    }
}

fn millis(millis: u64) -> f64 {
    float(millis) / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for people to look at")]
fn float(number: u64) -> f64 {
    number as f64
}

/// A rate as a whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are not negative")]
pub fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// At most four digits before the unit.
pub fn size(bytes: u64) -> String {
    let shift = [40, 30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    Size::from_bytes(bytes >> shift << shift).to_string()
}

#[cfg(test)]
mod tests {
    use vzd_state::subsystem::beancounters::{Enforcement, UNLIMITED};
    use vzd_state::units::Timestamp;

    use super::*;
    use crate::control::CounterView;
    use crate::kernel::cgroup::{Io, Usage};

    fn ve(name: &str, at: i64, cpu_usec: u64, failcnt: u64) -> VeUsage {
        let (counter, _, unit) = Counter::ALL[5];
        VeUsage {
            name: name.to_owned(),
            ctid: Some(101),
            state: VeState::Running,
            ready: true,
            started_at: Some(Timestamp(5)),
            at: Timestamp(at),
            usage: Usage {
                cpu_usec: Some(cpu_usec),
                memory_bytes: Some(cpu_usec + 1),
                tasks: Some(1),
                io: Some(Io { read_bytes: cpu_usec, ..Io::default() }),
            },
            counters: vec![CounterView {
                name: counter,
                unit,
                held: Some(1),
                maxheld: Some(1),
                barrier: 1,
                limit: UNLIMITED,
                failcnt,
                enforcement: Enforcement::Enforced("x".to_owned()),
            }],
            links: Vec::new(),
            passes: 1,
            errors: 0,
            restarts: 0,
        }
    }

    #[test]
    fn rates_are_of_the_time_in_between_and_of_one_run() {
        let before = [ve("a", 1000, 0, 1), ve("b", 1000, 0, 0)];
        let again = VeUsage { started_at: Some(Timestamp(6)), ..ve("b", 3000, 9, 5) };
        let rows =
            rows(&before, &[ve("a", 3000, 1_000_000, 4), again, ve("c", 3000, 7, 7)], Sort::Cpu, false);
        let a = &rows[0];
        assert_eq!(
            (a.name.as_str(), a.cpu_percent, a.read_bytes_per_second),
            ("a", Some(50.0), Some(500_000.0))
        );
        assert_eq!(a.failing.values().copied().collect::<Vec<_>>(), [3]);
        assert_eq!((a.failures, a.memory_bytes), (4, Some(1_000_001)));
        for fresh in &rows[1..] {
            assert_eq!((fresh.cpu_percent, fresh.failing.len()), (None, 0), "{}", fresh.name);
        }
    }

    #[test]
    fn rows_are_sorted_as_asked_and_then_by_name() {
        let before = [ve("a", 0, 0, 0), ve("b", 0, 0, 0), ve("c", 0, 0, 0)];
        let now = [ve("c", 1000, 5, 0), ve("b", 1000, 5, 9), ve("a", 1000, 1, 0)];
        let names = |sort, reverse| -> String {
            rows(&before, &now, sort, reverse).into_iter().map(|row| row.name).collect()
        };
        assert_eq!(names(Sort::Cpu, false), "bca");
        assert_eq!(names(Sort::Memory, false), "bca");
        assert_eq!(names(Sort::Io, true), "acb");
        assert_eq!(names(Sort::Failures, false), "bac");
        assert_eq!(names(Sort::Processes, false), "abc");
        assert_eq!(names(Sort::Name, true), "cba");
    }
}
