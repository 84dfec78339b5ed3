//! Metrics in Prometheus' text format (version 0.0.4), made anew at each question.
//!
//! Names, labels and units are stable and told in docs/guides/metrics.md, which a test compares with this.
//! Nothing here counts anything: numbers are those of `vzd top` and `vzd status`.

use std::fmt::Write;

use vzd_state::subsystem::beancounters::{UNLIMITED, Unit};

use crate::control::{CounterView, Info, VeState, VeUsage};
use crate::drivers::network::LinkUse;

/// The type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a number behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric of each VE: name, kind, what it tells, and its number where there is one.
type OfVe = (&'static str, Kind, &'static str, fn(&VeUsage) -> Option<f64>);

const OF_VE: [OfVe; 12] = [
    ("vzd_ve_ready", Kind::Gauge, "Whether the VE is as its manifest wants it.", |ve| {
        Some(f64::from(u8::from(ve.ready)))
    }),
    ("vzd_ve_start_time_seconds", Kind::Gauge, "When the present run began, since 1970.", |ve| {
        ve.started_at.map(|at| number(at.0.unsigned_abs()) / 1e3)
    }),
    ("vzd_ve_cpu_seconds_total", Kind::Counter, "CPU time used since the start.", |ve| {
        ve.usage.cpu_usec.map(|usec| number(usec) / 1e6)
    }),
    ("vzd_ve_memory_bytes", Kind::Gauge, "Memory charged to the VE, page cache included.", |ve| {
        ve.usage.memory_bytes.map(number)
    }),
    ("vzd_ve_processes", Kind::Gauge, "Processes and threads.", |ve| ve.usage.tasks.map(number)),
    ("vzd_ve_io_read_bytes_total", Kind::Counter, "Bytes read from block devices since the start.", |ve| {
        ve.usage.io.map(|io| number(io.read_bytes))
    }),
    (
        "vzd_ve_io_written_bytes_total",
        Kind::Counter,
        "Bytes written to block devices since the start.",
        |ve| ve.usage.io.map(|io| number(io.written_bytes)),
    ),
    ("vzd_ve_io_reads_total", Kind::Counter, "Reads from block devices since the start.", |ve| {
        ve.usage.io.map(|io| number(io.reads))
    }),
    ("vzd_ve_io_writes_total", Kind::Counter, "Writes to block devices since the start.", |ve| {
        ve.usage.io.map(|io| number(io.writes))
    }),
    ("vzd_ve_passes_total", Kind::Counter, "Passes over the VE since the controller started.", |ve| {
        Some(number(ve.passes))
    }),
    ("vzd_ve_errors_total", Kind::Counter, "Passes over the VE that ended with an error.", |ve| {
        Some(number(ve.errors))
    }),
    ("vzd_ve_restarts_total", Kind::Counter, "Starts after a crash, a reboot or a halt.", |ve| {
        Some(number(ve.restarts))
    }),
];

/// A metric of each counter of each VE.
type OfCounter = (&'static str, Kind, &'static str, fn(&CounterView) -> Option<f64>);

const OF_COUNTER: [OfCounter; 5] = [
    ("vzd_ve_ubc_held", Kind::Gauge, "In use now, in the counter's unit.", |is| is.held.map(number)),
    ("vzd_ve_ubc_maxheld", Kind::Gauge, "The most in use since the start, in the counter's unit.", |is| {
        is.maxheld.map(number)
    }),
    ("vzd_ve_ubc_barrier", Kind::Gauge, "Barrier, in the counter's unit; +Inf for none.", |is| {
        Some(bound(is.barrier))
    }),
    ("vzd_ve_ubc_limit", Kind::Gauge, "Limit, in the counter's unit; +Inf for none.", |is| {
        Some(bound(is.limit))
    }),
    ("vzd_ve_ubc_failures_total", Kind::Counter, "Requests refused since the start (failcnt).", |is| {
        Some(number(is.failcnt))
    }),
];

/// A metric of each link of each VE.
type OfLink = (&'static str, &'static str, fn(&LinkUse) -> u64);

const OF_LINK: [OfLink; 6] = [
    ("vzd_ve_network_received_bytes_total", "Bytes that the VE received.", |is| is.received.bytes),
    ("vzd_ve_network_received_packets_total", "Packets that the VE received.", |is| is.received.packets),
    ("vzd_ve_network_received_dropped_total", "Packets to the VE that were dropped.", |is| {
        is.received.dropped
    }),
    ("vzd_ve_network_sent_bytes_total", "Bytes that the VE sent.", |is| is.sent.bytes),
    ("vzd_ve_network_sent_packets_total", "Packets that the VE sent.", |is| is.sent.packets),
    ("vzd_ve_network_sent_dropped_total", "Packets from the VE that were dropped.", |is| is.sent.dropped),
];

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
fn number(number: u64) -> f64 {
    number as f64
}

fn bound(bound: u64) -> f64 {
    if bound == UNLIMITED { f64::INFINITY } else { number(bound) }
}

/// The whole text.
pub fn text(info: &Info, ves: &[VeUsage]) -> String {
    let mut text = String::new();
    let out = &mut text;
    head(out, "vzd_build_info", Kind::Gauge, "The controller that answers; always 1.");
    sample(out, "vzd_build_info", &[("version", &info.version)], 1.0);
    let pass = info.last_pass.as_ref();
    let of_host = [
        ("vzd_ves", Kind::Gauge, "VEs that have a manifest.", Some(number(info.ves as u64))),
        (
            "vzd_passes_total",
            Kind::Counter,
            "Passes over all VEs since the controller started.",
            pass.map(|pass| number(pass.count)),
        ),
        (
            "vzd_pass_duration_seconds",
            Kind::Gauge,
            "Duration of the last pass over all VEs.",
            pass.map(|pass| number(pass.duration_us) / 1e6),
        ),
    ];
    for (name, kind, help, value) in of_host {
        head(out, name, kind, help);
        value.into_iter().for_each(|value| sample(out, name, &[], value));
    }
    head(out, "vzd_names", Kind::Gauge, "VEs whose names are told to others.");
    info.names.iter().for_each(|is| sample(out, "vzd_names", &[], number(is.names as u64)));
    head(
        out,
        "vzd_names_queries_total",
        Kind::Counter,
        "Questions of VEs for names, by what became of them.",
    );
    if let Some(is) = &info.names {
        let all = [("answered", is.answered), ("forwarded", is.forwarded), ("refused", is.refused)];
        for (outcome, count) in all {
            sample(out, "vzd_names_queries_total", &[("outcome", outcome)], number(count));
        }
    }
    head(out, "vzd_ve_info", Kind::Gauge, "The VE's number; always 1.");
    for ve in ves {
        let ctid = ve.ctid.map_or_else(String::new, |ctid| ctid.to_string());
        sample(out, "vzd_ve_info", &[("ve", &ve.name), ("ctid", &ctid)], 1.0);
    }
    head(out, "vzd_ve_state", Kind::Gauge, "1 for what the VE does, 0 for the other states.");
    for ve in ves {
        for state in VeState::ALL {
            let is = f64::from(u8::from(ve.state == state));
            sample(out, "vzd_ve_state", &[("ve", &ve.name), ("state", state.word())], is);
        }
    }
    for (name, kind, help, value) in OF_VE {
        head(out, name, kind, help);
        for ve in ves {
            value(ve).into_iter().for_each(|value| sample(out, name, &[("ve", &ve.name)], value));
        }
    }
    for (name, kind, help, value) in OF_COUNTER {
        head(out, name, kind, help);
        for (ve, is) in ves.iter().flat_map(|ve| ve.counters.iter().map(move |is| (ve, is))) {
            let counter = is.name.to_string();
            let labels = [("ve", ve.name.as_str()), ("counter", counter.as_str()), ("unit", unit(is.unit))];
            value(is).into_iter().for_each(|value| sample(out, name, &labels, value));
        }
    }
    for (name, help, value) in OF_LINK {
        head(out, name, Kind::Counter, help);
        for (ve, is) in ves.iter().flat_map(|ve| ve.links.iter().map(move |is| (ve, is))) {
            sample(out, name, &[("ve", &ve.name), ("interface", &is.name)], number(value(is)));
        }
    }
    text
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Pages => "pages",
        Unit::Items => "items",
    }
}

fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    // Writing to a text cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (at, (label, value)) in labels.iter().enumerate() {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
    }
    if !labels.is_empty() {
        out.push('}');
    }
    let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
    let _ = writeln!(out, " {value}");
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use vzd_state::subsystem::beancounters::{Counter, Enforcement};
    use vzd_state::units::Timestamp;

    use super::*;
    use crate::kernel::cgroup::{Io, Usage};
    use crate::kernel::net::Traffic;

    fn text() -> String {
        let counter = |(name, _, unit)| CounterView {
            name,
            unit,
            held: Some(7),
            maxheld: Some(9),
            barrier: 10,
            limit: UNLIMITED,
            failcnt: 3,
            enforcement: Enforcement::Accounted("x".to_owned()),
        };
        let received = Traffic { bytes: 1500, packets: 2, dropped: 3 };
        let io = Io { read_bytes: 4096, written_bytes: 0, reads: 1, writes: 0 };
        let web = VeUsage {
            name: "we\"b".to_owned(),
            ctid: Some(101),
            state: VeState::Running,
            ready: true,
            started_at: Some(Timestamp(1_800_000_000_500)),
            at: Timestamp(1_800_000_001_000),
            usage: Usage {
                cpu_usec: Some(1_500_000),
                memory_bytes: Some(1 << 40),
                tasks: Some(2),
                io: Some(io),
            },
            links: vec![LinkUse { name: "venet0".to_owned(), received, sent: Traffic::default() }],
            counters: Counter::ALL.map(counter).into(),
            passes: 5,
            errors: 1,
            restarts: 0,
        };
        let stopped = VeUsage {
            name: "db".to_owned(),
            state: VeState::Stopped,
            started_at: None,
            usage: Usage::default(),
            links: Vec::new(),
            counters: Vec::new(),
            ..web.clone()
        };
        super::text(&Info { version: "1.2".to_owned(), ves: 2, ..Info::default() }, &[web, stopped])
    }

    /// Samples by name, and the kind that was declared before.
    fn parse(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
        let mut metrics: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
        let (mut helped, mut last) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, told) = help.split_once(' ').unwrap();
                assert!(told.ends_with('.') && !metrics.contains_key(name), "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                metrics.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
                last = name.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| {
                    (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))
                });
                assert_eq!(name, last, "samples of one metric stand together");
                metrics.get_mut(name).unwrap().1.push((labels.to_owned(), value.parse().unwrap()));
            }
        }
        assert!(text.ends_with('\n'));
        metrics
    }

    #[test]
    fn the_text_is_in_prometheus_format() {
        let metrics = parse(&text());
        let of = |name: &str| metrics[name].1.clone();
        assert_eq!(of("vzd_build_info"), [(r#"version="1.2""#.to_owned(), 1.0)]);
        assert_eq!(of("vzd_ve_cpu_seconds_total"), [(r#"ve="we\"b""#.to_owned(), 1.5)]);
        assert_eq!(of("vzd_ve_memory_bytes")[0].1, 1_099_511_627_776.0);
        assert_eq!(of("vzd_ve_start_time_seconds")[0].1, 1_800_000_000.5);
        assert_eq!(of("vzd_ve_ready").len(), 2);
        assert_eq!(of("vzd_ve_ubc_held").len(), Counter::ALL.len());
        let kmemsize = r#"ve="we\"b",counter="kmemsize",unit="bytes""#.to_owned();
        assert_eq!(of("vzd_ve_ubc_held")[0], (kmemsize, 7.0));
        assert!(of("vzd_ve_ubc_limit").iter().all(|(_, limit)| limit.is_infinite()));
        let venet0 = r#"ve="we\"b",interface="venet0""#.to_owned();
        assert_eq!(of("vzd_ve_network_received_bytes_total"), [(venet0.clone(), 1500.0)]);
        assert_eq!(of("vzd_ve_network_received_dropped_total"), [(venet0, 3.0)]);
        let states: Vec<_> = of("vzd_ve_state").iter().map(|(_, is)| *is).collect();
        assert_eq!(states, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn every_metric_is_in_the_guide_with_its_kind_and_labels_and_no_other() {
        let guide = include_str!("../../../docs/guides/metrics.md");
        let row = |line: &str| -> Option<(String, String)> {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').to_owned();
            Some((name, cells.next()?.to_owned()))
        };
        let told: BTreeSet<_> =
            guide.lines().filter(|line| line.starts_with("| `vzd_")).filter_map(row).collect();
        let is: BTreeSet<_> = parse(&text()).into_iter().map(|(name, (kind, _))| (name, kind)).collect();
        assert_eq!(told, is);
    }
}
