//! How beancounters have to fit each other: the rules of OpenVZ's vzcfgvalidate.
//!
//! A rule is about counters that are written; what is not written is unlimited and fits. With a finite
//! limit of RAM (VSwap) the other counters are optional and not compared, as in OpenVZ. vzcfgvalidate's
//! errors are errors here, its warnings and recommendations warnings. What depends on the host (its RAM,
//! its swap) is not known here.

use super::{Checker, value_place};
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::v1::{Beancounters, Count, Limit, Pages, Pair, Size, VeSpec};

/// How much a rule is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Error,
    Warning,
    Recommendation,
}

/// Barrier and limit as numbers; none is no limit.
type Numbers = (Option<u64>, Option<u64>);

/// Whether problems that are no errors are told as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// In the document in which they are written.
    All,
    /// Where documents are put together: it is only asked whether it can be carried out.
    Errors,
}

impl Checker<'_> {
    /// Compares what is written.
    pub(super) fn counters(&mut self, spec: &VeSpec, tell: Tell) {
        let counters = &spec.beancounters;
        for (name, pair) in [("physpages", counters.physpages), ("swappages", counters.swappages)] {
            let barrier = pair.map(|pair| pair.barrier());
            if barrier.is_some_and(|barrier| barrier != Limit::At(Pages::default())) {
                let say = format!("the barrier of `{name}` has to be 0: write \"0:LIMIT\"");
                self.misfit(Class::Error, say, name, None);
            }
        }
        let finite = |limit: Option<Limit<_>>| matches!(limit, Some(Limit::At(_)));
        let ram =
            finite(spec.memory.ram) || counters.physpages.is_some_and(|is| is.limit().amount().is_some());
        if ram {
            return;
        }
        let rules = Rules { given: Given::of(counters), found: Vec::new() };
        for Found { class, say, counter, other } in rules.all() {
            if class == Class::Error || tell == Tell::All {
                self.misfit(class, say, counter, other);
            }
        }
    }

    fn misfit(&mut self, class: Class, say: String, counter: &str, other: Option<&str>) {
        let path = |name: &str| format!("spec.beancounters.{name}");
        let told = match class {
            Class::Error => Diagnostic::error(Code::Misfit, say),
            Class::Warning => Diagnostic::warning(Code::Misfit, say),
            Class::Recommendation => Diagnostic::warning(Code::Misfit, format!("{say} (recommended)")),
        };
        let told = told.at(value_place(self.root, &path(counter)), "");
        self.problems.push(match other {
            Some(other) => told.also(value_place(self.root, &path(other)), "does not go with this"),
            None => told,
        });
    }
}

/// A rule that is not kept.
struct Found {
    class: Class,
    say: String,
    counter: &'static str,
    other: Option<&'static str>,
}

/// The counters that are written.
struct Given(Vec<(&'static str, Numbers)>);

impl Given {
    fn of(counters: &Beancounters) -> Self {
        let bytes = |pair: Option<Pair<Size>>| pair.map(|pair| numbers(pair, Size::bytes));
        let pages = |pair: Option<Pair<Pages>>| pair.map(|pair| numbers(pair, Pages::pages));
        let items = |pair: Option<Pair<Count>>| pair.map(|pair| numbers(pair, Count::get));
        let all = [
            ("kmemsize", bytes(counters.kmemsize)),
            ("privvmpages", pages(counters.privvmpages)),
            ("shmpages", pages(counters.shmpages)),
            ("numproc", items(counters.numproc)),
            ("vmguarpages", pages(counters.vmguarpages)),
            ("oomguarpages", pages(counters.oomguarpages)),
            ("numtcpsock", items(counters.numtcpsock)),
            ("numpty", items(counters.numpty)),
            ("numsiginfo", items(counters.numsiginfo)),
            ("tcpsndbuf", bytes(counters.tcpsndbuf)),
            ("tcprcvbuf", bytes(counters.tcprcvbuf)),
            ("othersockbuf", bytes(counters.othersockbuf)),
            ("dgramrcvbuf", bytes(counters.dgramrcvbuf)),
            ("numothersock", items(counters.numothersock)),
            ("dcachesize", bytes(counters.dcachesize)),
            ("numfile", items(counters.numfile)),
            ("numiptent", items(counters.numiptent)),
        ];
        Self(all.into_iter().filter_map(|(name, numbers)| Some((name, numbers?))).collect())
    }

    fn pair(&self, name: &str) -> Option<Numbers> {
        self.0.iter().find(|(is, _)| *is == name).map(|(_, numbers)| *numbers)
    }

    fn barrier(&self, name: &str) -> Option<u64> {
        self.pair(name)?.0
    }

    fn limit(&self, name: &str) -> Option<u64> {
        self.pair(name)?.1
    }
}

fn numbers<T: Copy>(pair: Pair<T>, number: impl Fn(T) -> u64) -> Numbers {
    (pair.barrier().amount().map(&number), pair.limit().amount().map(&number))
}

/// Bytes of kernel memory that a process takes, of a descriptor's directory entry, and of a packet.
const PER_PROCESS: u64 = 40 * 1024;
const PER_FILE: u64 = 384;
const PER_SOCKET: u64 = 2560;

struct Rules {
    given: Given,
    found: Vec<Found>,
}

impl Rules {
    fn all(mut self) -> Vec<Found> {
        use Class::{Error, Recommendation, Warning};
        for name in [
            "numproc",
            "numtcpsock",
            "numothersock",
            "shmpages",
            "numfile",
            "numpty",
            "numsiginfo",
            "numiptent",
        ] {
            if self.given.pair(name).is_some_and(|(barrier, limit)| barrier != limit) {
                self.found(Error, format!("barrier and limit of `{name}` have to be the same"), name, None);
            }
        }
        for name in ["vmguarpages", "oomguarpages"] {
            if self.given.limit(name).is_some() {
                let say = format!("`{name}` is a guarantee: its limit has to be unlimited");
                self.found(Error, say, name, None);
            }
        }
        // OpenVZ's avnumproc, where it is not known better.
        let average = self.given.barrier("numproc").map(|processes| processes / 2);
        let cache = self.given.limit("dcachesize");
        if let (Some(average), Some(cache)) = (average, cache) {
            let need = average * PER_PROCESS + cache;
            let why = "40 KiB for each of half of numproc, and dcachesize";
            self.at_least(Error, "barrier", "kmemsize", need, why, Some("dcachesize"));
        }
        if let Some(files) = self.given.barrier("numfile") {
            self.at_least(
                Warning,
                "limit",
                "dcachesize",
                files * PER_FILE,
                "384 bytes a file",
                Some("numfile"),
            );
        }
        if let Some(guaranteed) = self.given.barrier("vmguarpages") {
            self.at_least(
                Warning,
                "barrier",
                "privvmpages",
                guaranteed,
                "what is guaranteed",
                Some("vmguarpages"),
            );
        }
        for (class, buffers, sockets) in [
            (Error, "tcpsndbuf", "numtcpsock"),
            (Error, "othersockbuf", "numothersock"),
            (Warning, "tcprcvbuf", "numtcpsock"),
        ] {
            self.gap(class, buffers, sockets);
        }
        for (class, name, least) in [
            (Warning, "tcpsndbuf", 64 << 10),
            (Warning, "tcprcvbuf", 64 << 10),
            (Warning, "othersockbuf", 32 << 10),
            (Warning, "dgramrcvbuf", 32 << 10),
            (Recommendation, "othersockbuf", 129 << 10),
            (Recommendation, "dgramrcvbuf", 129 << 10),
        ] {
            self.at_least(class, "barrier", name, least, "so that anything can be sent", None);
        }
        let of = |name| self.given.barrier(name);
        // The average is not in the format; OpenVZ's samples have from three eighths of numproc on.
        let by_process = of("numproc").map_or(0, |processes| processes * 3 / 8 * 32);
        let by_socket = match (of("numtcpsock"), of("numothersock"), of("numpty")) {
            (Some(tcp), Some(other), Some(pty)) => tcp + other + pty,
            _ => 0,
        };
        let need = by_process.max(by_socket);
        self.at_least(
            Warning,
            "barrier",
            "numfile",
            need,
            "32 for each of 3/8 of numproc, and all sockets",
            None,
        );
        if of_is_more(self.given.limit("numpty"), 255) {
            self.found(Warning, "`numpty` is above 255, OpenVZ's most".to_owned(), "numpty", None);
        }
        self.found
    }

    fn found(&mut self, class: Class, say: String, counter: &'static str, other: Option<&'static str>) {
        // A warning says it already.
        let known = |is: &Found| is.counter == counter && class == Class::Recommendation;
        if !self.found.iter().any(known) {
            self.found.push(Found { class, say, counter, other });
        }
    }

    fn at_least(
        &mut self,
        class: Class,
        which: &str,
        counter: &'static str,
        least: u64,
        why: &str,
        other: Option<&'static str>,
    ) {
        let is = if which == "barrier" { self.given.barrier(counter) } else { self.given.limit(counter) };
        if let Some(is) = is.filter(|is| *is < least) {
            let say = format!("the {which} of `{counter}` is {is}; it has to be at least {least}: {why}");
            self.found(class, say, counter, other);
        }
    }

    /// Between barrier and limit there has to be room for a packet of each socket.
    fn gap(&mut self, class: Class, buffers: &'static str, sockets: &'static str) {
        let (Some((Some(barrier), Some(limit))), Some(sockets_are)) =
            (self.given.pair(buffers), self.given.barrier(sockets))
        else {
            return;
        };
        let need = sockets_are * PER_SOCKET;
        if limit - barrier < need {
            let say = format!(
                "the limit of `{buffers}` is {} above its barrier; it has to be at least {need}: 2.5 KiB for each of `{sockets}`",
                limit - barrier
            );
            self.found(class, say, buffers, Some(sockets));
        }
    }
}

fn of_is_more(number: Option<u64>, most: u64) -> bool {
    number.is_some_and(|number| number > most)
}
