//! One container as vzlist sees it: its document and, where a column needs it, what it uses. Pure.

use serde_json::Value as Json;
use vzd_schema::v1::scalars::{Amount, Count, Limit, Pages, Pair, Size};
use vzd_state::status::Document;
use vzd_state::subsystem::beancounters::{Counter, Unit};

use crate::cli::shown;
use crate::control::{CounterView, VeUsage};

/// No limit.
pub const UNLIMITED: u64 = i64::MAX as u64;

/// A container.
#[derive(Debug)]
pub struct Row {
    /// What is published of it.
    pub document: Document,
    /// Where its disk is.
    pub private: Option<String>,
    /// Where its root is mounted on the host, while it is down.
    pub mounted: Option<String>,
    /// What it uses, if that was asked for.
    pub usage: Option<VeUsage>,
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// There is none.
    Missing,
    /// A text.
    Text(String),
    /// A number.
    Number(i128),
    /// Yes or no.
    Truth(bool),
    /// Words.
    List(Vec<String>),
    /// Words that are on or off.
    Switches(Vec<(String, bool)>),
    /// Thousandths.
    Factor(u64),
    /// Milliseconds since the start.
    Uptime(u64),
}

impl Row {
    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.document.status.init_pid.is_some()
    }

    fn spec(&self, path: &str) -> &Json {
        path.split('.').fold(&self.document.spec, |at, step| &at[step])
    }

    /// A text of the spec.
    pub fn text(&self, path: &str) -> Cell {
        self.spec(path).as_str().map_or(Cell::Missing, |text| Cell::Text(text.to_owned()))
    }

    /// The words of a list of the spec.
    pub fn list(&self, path: &str) -> Cell {
        match self.spec(path).as_array().map(Vec::as_slice) {
            None | Some([]) => Cell::Missing,
            Some(items) => Cell::List(items.iter().filter_map(Json::as_str).map(str::to_owned).collect()),
        }
    }

    /// The whole part of a number of the spec, written as a number or as a text with a sign behind it.
    pub fn number(&self, path: &str) -> Option<i64> {
        match self.spec(path) {
            Json::Number(number) => number.as_i64(),
            Json::String(text) => text.trim_end_matches('%').split('.').next()?.parse().ok(),
            _ => None,
        }
    }

    /// A truth of the spec.
    pub fn truth(&self, path: &str) -> Option<bool> {
        self.spec(path).as_bool()
    }

    /// An amount of the spec that may be unlimited.
    pub fn limit<T: Amount>(&self, path: &str) -> Option<Limit<T>> {
        match self.spec(path) {
            Json::String(text) => text.parse().ok(),
            Json::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Its ctid, if it was ever made.
    pub fn ctid(&self) -> Option<u32> {
        self.document.status.ctid.map(|ctid| ctid.get())
    }

    /// Its name, unless that is its number.
    pub fn name(&self) -> Option<String> {
        if let Some(alias) = self.document.metadata.alias() {
            return Some(alias.to_owned());
        }
        let name = self.document.metadata.name.to_string();
        (self.ctid().map(|ctid| ctid.to_string()).as_ref() != Some(&name)).then_some(name)
    }

    /// `running`, `mounted` (on the host), `suspended` (to disk), `stopped`.
    pub fn status(&self) -> &'static str {
        match shown::state(&self.document).0 {
            _ if self.runs() => "running",
            _ if self.mounted.is_some() => "mounted",
            "suspended" => "suspended",
            _ => "stopped",
        }
    }

    /// Its addresses, without the mask of a single one.
    pub fn addresses(&self) -> Vec<String> {
        let of = |list: &Json| -> Vec<String> {
            let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Json::as_str).map(bare).collect()
        };
        let mut all = of(self.spec("network.addresses"));
        for interface in self.spec("network.interfaces").as_array().map(Vec::as_slice).unwrap_or_default() {
            all.extend(of(&interface["addresses"]));
        }
        all
    }

    /// What a running container holds of a counter.
    pub fn counter(&self, counter: Counter) -> Option<&CounterView> {
        self.usage.as_ref()?.counters.iter().find(|view| view.name == counter)
    }

    /// Barrier and limit of a counter: of the kernel while it runs, else as they are written.
    pub fn bounds(&self, counter: Counter, unit: Unit) -> (u64, u64) {
        if let Some(view) = self.counter(counter) {
            return (view.barrier, view.limit);
        }
        let path = format!("beancounters.{counter}");
        let written = match unit {
            Unit::Items => self.pair::<Count>(&path, |count| count.get()),
            Unit::Bytes => self.pair::<Size>(&path, |size| size.bytes()),
            Unit::Pages => self.pair::<Pages>(&path, |pages| pages.pages()),
        };
        let memory = |field: &str| match self.limit::<Size>(field)? {
            Limit::At(size) => Some((0, Pages::of(size).pages())),
            Limit::Unlimited => Some((0, UNLIMITED)),
        };
        let memory = match counter {
            Counter::Physpages => memory("memory.ram"),
            Counter::Swappages => memory("memory.swap"),
            _ => None,
        };
        written.or(memory).unwrap_or((UNLIMITED, UNLIMITED))
    }

    /// What may be allocated as a multiple of RAM and swap, in thousandths; none where one of them has no limit.
    pub fn overcommit(&self) -> Option<u64> {
        let most = |counter| Some(self.bounds(counter, Unit::Pages).1).filter(|pages| *pages != UNLIMITED);
        let memory = most(Counter::Physpages)?.checked_add(most(Counter::Swappages)?)?;
        let allocated = self.bounds(Counter::Privvmpages, Unit::Pages).0;
        let finite = (allocated != UNLIMITED).then_some(allocated)?;
        let factor = (u128::from(finite) * 1000 + u128::from(memory) / 2).checked_div(u128::from(memory))?;
        u64::try_from(factor).ok()
    }

    fn pair<T: Amount>(&self, path: &str, of: impl Fn(T) -> u64) -> Option<(u64, u64)> {
        let pair: Pair<T> = match self.spec(path) {
            Json::String(text) => text.parse().ok()?,
            Json::Number(number) => number.to_string().parse().ok()?,
            _ => return None,
        };
        let number = |limit: Limit<T>| limit.amount().map_or(UNLIMITED, &of);
        Some((number(pair.barrier()), number(pair.limit())))
    }

    /// A resource of the disk: use, soft and hard limit. Space is in KiB.
    pub fn disk(&self, name: &str) -> [Option<u64>; 3] {
        let shown = self.document.status.resources.get("disk").map(|disk| &disk[name]);
        let unit = if name == "diskspace" { 1024 } else { 1 };
        let seen = |key: &str| shown.and_then(|shown| shown[key].as_u64()).map(|number| number / unit);
        let path = format!("disk.{name}");
        let written = match name {
            "diskspace" => self.pair::<Size>(&path, |size| size.bytes()),
            _ => self.pair::<Count>(&path, |count| count.get()),
        };
        let bound = |number: u64| if number == UNLIMITED { None } else { Some(number / unit) };
        let (soft, hard) = written.map_or((None, None), |(soft, hard)| (bound(soft), bound(hard)));
        [seen("used"), soft.or(seen("soft")), hard.or(seen("hard"))]
    }
}

/// Without `/32` or `/128`, as OpenVZ shows addresses of venet.
fn bare(address: &str) -> String {
    let suffix = if address.contains(':') { "/128" } else { "/32" };
    address.strip_suffix(suffix).unwrap_or(address).to_owned()
}
