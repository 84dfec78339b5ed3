//! Limits that say one thing in two ways, and probes.

use super::Checker;
use crate::code::Code;
use crate::v1::{Limit, Pages, Size, VeSpec};

impl Checker<'_> {
    /// `memory` and the page beancounters may both be written, if they agree.
    pub(super) fn memory(&mut self, spec: &VeSpec) {
        let (memory, counters) = (&spec.memory, &spec.beancounters);
        let pairs = [
            ("memory.ram", memory.ram, "beancounters.physpages", counters.physpages),
            ("memory.swap", memory.swap, "beancounters.swappages", counters.swappages),
        ];
        for (ours, size, theirs, pages) in pairs {
            let (Some(size), Some(pages)) = (size, pages) else { continue };
            if in_pages(size) != pages.limit() {
                let message = format!(
                    "`{theirs}` and `{ours}` say the same thing, but differ: {} and {size}",
                    pages.limit()
                );
                self.conflict(
                    message,
                    &format!("spec.{theirs}"),
                    &format!("spec.{ours}"),
                    "leave one of the two out; a page is 4096 bytes",
                );
            }
        }
        if let (Some(guarantee), Some(Limit::At(ram))) = (memory.guarantee, memory.ram)
            && guarantee > ram
        {
            self.conflict(
                format!("a guarantee of {guarantee} is more than the VE may have, {ram}"),
                "spec.memory.guarantee",
                "spec.memory.ram",
                "",
            );
        }
    }

    /// One probe, and only one.
    pub(super) fn health(&mut self, spec: &VeSpec) {
        let Some(health) = &spec.health else { return };
        let probes =
            [("exec", health.exec.is_some()), ("tcp", health.tcp.is_some()), ("http", health.http.is_some())];
        let mut written =
            probes.into_iter().filter(|(_, written)| *written).map(|(name, _)| format!("spec.health.{name}"));
        match (written.next(), written.next()) {
            (None, _) => {
                self.bad(Code::MissingField, "`spec.health` needs one of exec, tcp and http", "spec.health")
            }
            (Some(first), Some(second)) => {
                self.conflict(
                    "`spec.health` has more than one probe",
                    &second,
                    &first,
                    "keep one of exec, tcp and http",
                );
            }
            _ => {}
        }
    }
}

fn in_pages(size: Limit<Size>) -> Limit<Pages> {
    match size {
        Limit::At(size) => Limit::At(Pages::of(size)),
        Limit::Unlimited => Limit::Unlimited,
    }
}
