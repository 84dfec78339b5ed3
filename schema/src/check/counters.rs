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
pub enum Class {
    /// It has to be kept.
    Error,
    /// It should be: programs may fail.
    Warning,
    /// It would be better.
    Recommendation,
}

/// Barrier and limit as numbers, in the counter's own unit; none is no limit.
pub type Numbers = (Option<u64>, Option<u64>);

/// The rules that these counters of a container without VSwap do not keep. `average` is how many processes it has on
/// average, where that is known; else it is guessed from `numproc`.
pub fn misfits(counters: Vec<(&'static str, Numbers)>, average: Option<u64>) -> Vec<Misfit> {
    Rules { given: Given(counters), average, found: Vec::new() }.all()
}

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
        for Misfit { class, say, counter, other, repaired: _ } in misfits(Given::of(counters).0, None) {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// How much it is worth.
    pub class: Class,
    /// What is wrong, in words.
    pub say: String,
    /// The counter that is to be changed.
    pub counter: &'static str,
    /// The counter that it does not go with.
    pub other: Option<&'static str>,
    /// What would do: no less of anything than there is.
    pub repaired: Numbers,
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
    average: Option<u64>,
    found: Vec<Misfit>,
}

impl Rules {
    fn all(mut self) -> Vec<Misfit> {
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
            if let Some((barrier, limit)) = self.given.pair(name).filter(|(barrier, limit)| barrier != limit)
            {
                let both = barrier.zip(limit).map(|(barrier, limit)| barrier.max(limit));
                let say = format!("barrier and limit of `{name}` have to be the same");
                self.found(Error, say, name, None, (both, both));
            }
        }
        for name in ["vmguarpages", "oomguarpages"] {
            if self.given.limit(name).is_some() {
                let say = format!("`{name}` is a guarantee: its limit has to be unlimited");
                self.found(Error, say, name, None, (self.given.barrier(name), None));
            }
        }
        // OpenVZ's avnumproc, where it is not known better.
        let average = self.average.or(self.given.barrier("numproc").map(|processes| processes / 2));
        let cache = self.given.limit("dcachesize");
        if let (Some(average), Some(cache)) = (average, cache) {
            let need = average.saturating_mul(PER_PROCESS).saturating_add(cache);
            let why = match self.average {
                Some(_) => "40 KiB for each of avnumproc, and dcachesize",
                None => "40 KiB for each of half of numproc, and dcachesize",
            };
            self.at_least(Error, "barrier", "kmemsize", need, why, Some("dcachesize"));
        }
        if let Some(files) = self.given.barrier("numfile") {
            self.at_least(
                Warning,
                "limit",
                "dcachesize",
                files.saturating_mul(PER_FILE),
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
        let processes = self.average.or(of("numproc").map(|processes| processes / 8 * 3));
        let by_process = processes.map_or(0, |processes| processes.saturating_mul(32));
        let by_socket = match (of("numtcpsock"), of("numothersock"), of("numpty")) {
            (Some(tcp), Some(other), Some(pty)) => tcp.saturating_add(other).saturating_add(pty),
            _ => 0,
        };
        let need = by_process.max(by_socket);
        self.at_least(
            Warning,
            "barrier",
            "numfile",
            need,
            match self.average {
                Some(_) => "32 for each of avnumproc, and all sockets",
                None => "32 for each of 3/8 of numproc, and all sockets",
            },
            None,
        );
        if of_is_more(self.given.limit("numpty"), 255) {
            let most = (Some(255), Some(255));
            self.found(Warning, "`numpty` is above 255, OpenVZ's most".to_owned(), "numpty", None, most);
        }
        self.found
    }

    fn found(
        &mut self,
        class: Class,
        say: String,
        counter: &'static str,
        other: Option<&'static str>,
        repaired: Numbers,
    ) {
        // A warning says it already.
        let known = |is: &Misfit| is.counter == counter && class == Class::Recommendation;
        if !self.found.iter().any(known) {
            self.found.push(Misfit { class, say, counter, other, repaired });
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
        let (barrier, limit) = self.given.pair(counter).unwrap_or_default();
        let is = if which == "barrier" { barrier } else { limit };
        if let Some(is) = is.filter(|is| *is < least) {
            let say = format!("the {which} of `{counter}` is {is}; it has to be at least {least}: {why}");
            // The distance of the two stays, where it is the lower one that is raised.
            let raised = if which == "barrier" { Some(least) } else { barrier };
            let repaired = (raised, limit.map(|limit| limit.saturating_add(least - is)));
            self.found(class, say, counter, other, repaired);
        }
    }

    /// Between barrier and limit there has to be room for a packet of each socket.
    fn gap(&mut self, class: Class, buffers: &'static str, sockets: &'static str) {
        let (Some((Some(barrier), Some(limit))), Some(sockets_are)) =
            (self.given.pair(buffers), self.given.barrier(sockets))
        else {
            return;
        };
        let (need, gap) = (sockets_are.saturating_mul(PER_SOCKET), limit.saturating_sub(barrier));
        if gap < need {
            let say = format!(
                "the limit of `{buffers}` is {gap} above its barrier; it has to be at least {need}: 2.5 KiB for each of `{sockets}`",
            );
            let repaired = (Some(barrier), Some(barrier.saturating_add(need)));
            self.found(class, say, buffers, Some(sockets), repaired);
        }
    }
}

fn of_is_more(number: Option<u64>, most: u64) -> bool {
    number.is_some_and(|number| number > most)
}
