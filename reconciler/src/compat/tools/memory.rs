//! What containers take of a host's memory, by OpenVZ's formulas (validate.c): in use, promised, and at most. Pure, but
//! for reading how much the host has.

use vzd_state::subsystem::beancounters::{Counter, UNLIMITED};

use super::super::exit::{Refusal, Tool};
use crate::control::VeCounters;

const PAGE: f64 = 4096.0;

/// A host's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host {
    /// RAM.
    pub ram: f64,
    /// Swap space.
    pub swap: f64,
}

/// Parts of the host, 1 being all of it. A guarantee or limit that is none is infinite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Kernel memory and buffers in use, against what the kernel may take.
    pub low_used: f64,
    /// The same by limits.
    pub low_promised: f64,
    /// RAM in use.
    pub ram_used: f64,
    /// RAM and swap in use.
    pub memory_used: f64,
    /// RAM and swap that is guaranteed.
    pub memory_promised: f64,
    /// Memory that programs have asked for.
    pub allocated: f64,
    /// Memory that they are guaranteed to get.
    pub allocated_promised: f64,
    /// Memory that they may ask for.
    pub allocated_most: f64,
    /// The same against RAM alone.
    pub most_of_ram: f64,
}

/// Counters that are kernel memory.
const KERNEL: [Counter; 5] =
    [Counter::Kmemsize, Counter::Tcpsndbuf, Counter::Tcprcvbuf, Counter::Othersockbuf, Counter::Dgramrcvbuf];

/// The part that a container takes. On 64 bits, all RAM is low memory, and the kernel may take 40 % of it.
pub fn share(ve: &VeCounters, host: Host) -> Share {
    let view = |counter: Counter| ve.counters.iter().find(|view| view.name == counter);
    let held = |counter| view(counter).and_then(|view| view.held).unwrap_or(0) as f64;
    let number = |number: u64| if number >= UNLIMITED { f64::INFINITY } else { number as f64 };
    let limit = |counter| view(counter).map_or(f64::INFINITY, |view| number(view.limit));
    // No guarantee is none, whatever large number stands for it.
    let barrier = |counter| view(counter).map_or(0.0, |view| number(view.barrier));
    let kernel_held: f64 = KERNEL.into_iter().map(held).sum();
    let kernel_limit: f64 = KERNEL.into_iter().map(limit).sum();
    let (low, all) = (0.4 * host.ram, host.ram + host.swap);
    Share {
        low_used: kernel_held / low,
        low_promised: kernel_limit / low,
        ram_used: (held(Counter::Physpages) * PAGE + kernel_held) / host.ram,
        memory_used: (held(Counter::Oomguarpages) * PAGE + kernel_held) / all,
        memory_promised: (barrier(Counter::Oomguarpages) * PAGE + kernel_limit) / all,
        allocated: (held(Counter::Privvmpages) * PAGE + kernel_held) / all,
        allocated_promised: (barrier(Counter::Vmguarpages) * PAGE + kernel_limit) / all,
        allocated_most: (limit(Counter::Privvmpages) * PAGE + kernel_limit) / all,
        most_of_ram: (limit(Counter::Privvmpages) * PAGE + kernel_limit) / host.ram,
    }
}

impl Share {
    /// The eight figures of vzmemcheck, in its order.
    pub fn figures(&self) -> [f64; 8] {
        [
            self.low_used,
            self.low_promised,
            self.ram_used,
            self.memory_used,
            self.memory_promised,
            self.allocated,
            self.allocated_promised,
            self.allocated_most,
        ]
    }
}

/// A part in percent, as all of OpenVZ's tools show it; what has no limit is `unlimited`.
pub fn percent(part: f64) -> String {
    if part.is_finite() { format!("{:.2}", part * 100.0) } else { "unlimited".to_owned() }
}

/// The whole part of an amount, which is never negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what does not fit comes to the nearest that does"
)]
pub fn whole(amount: f64) -> u64 {
    amount as u64
}

impl Host {
    /// This host, by /proc/meminfo.
    pub fn read() -> Tool<Self> {
        const PATH: &str = "/proc/meminfo";
        let text = std::fs::read_to_string(PATH)
            .map_err(|error| Refusal::new(1, format!("cannot read {PATH}: {error}")))?;
        let kib = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let (Some(ram), Some(swap)) = (kib("MemTotal:"), kib("SwapTotal:")) else {
            return Err(Refusal::new(1, format!("{PATH} does not say MemTotal and SwapTotal")));
        };
        Ok(Self { ram: ram * 1024.0, swap: swap * 1024.0 })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::CounterView;
    use vzd_state::subsystem::beancounters::Enforcement;

    /// OpenVZ's sample `basic`, with something in use.
    pub fn basic() -> VeCounters {
        let bounds = |counter: Counter| match counter {
            Counter::Kmemsize => (2_863_104, 14_372_700, 14_790_164),
            Counter::Privvmpages => (10_000, 65_536, 69_632),
            Counter::Physpages => (2_500, 0, UNLIMITED),
            Counter::Vmguarpages => (0, 33_792, UNLIMITED),
            Counter::Oomguarpages => (3_000, 26_112, UNLIMITED),
            Counter::Tcpsndbuf | Counter::Tcprcvbuf => (0, 1_720_320, 2_703_360),
            Counter::Othersockbuf => (4_608, 1_126_080, 2_097_152),
            Counter::Dgramrcvbuf => (0, 262_144, 262_144),
            _ => (1, 100, 100),
        };
        let view = |(name, _, unit): (Counter, &str, _)| {
            let (held, barrier, limit) = bounds(name);
            let enforcement = Enforcement::Accounted(String::new());
            CounterView {
                name,
                unit,
                held: Some(held),
                maxheld: Some(held),
                barrier,
                limit,
                failcnt: 0,
                enforcement,
            }
        };
        VeCounters { name: "web".to_owned(), ctid: 101, counters: Counter::ALL.map(view).into() }
    }

    /// 1 GiB of RAM, 2 GiB of swap.
    pub const HOST: Host = Host { ram: 1_073_741_824.0, swap: 2_147_483_648.0 };

    #[test]
    fn the_figures_are_openvzs() {
        let figures = share(&basic(), HOST).figures().map(percent);
        // (2863104 + 4608) / (0.4 GiB); limits 22556180 / 0.4 GiB; (2500 pages + 2867712) / GiB; ...
        assert_eq!(figures, ["0.67", "5.25", "1.22", "0.47", "4.02", "1.36", "5.00", "9.55"]);
        assert_eq!(percent(f64::INFINITY), "unlimited");
    }
}
