//! The columns of vzlist: names, headers, widths, values, order; and how a value is shown in a table and in JSON,
//! to the letter. Pure.

use std::cmp::Ordering;
use std::sync::OnceLock;

use vzd_schema::v1::DISABLED;
use vzd_schema::v1::scalars::{ByteRate, Limit, OpRate};
use vzd_state::subsystem::beancounters::{Counter, Unit};

use super::row::{Cell, Row};

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// What `-o` calls it.
    pub name: String,
    /// Its header.
    pub header: String,
    /// Its width; text is put to the left, numbers to the right.
    pub width: usize,
    left: bool,
    of: Of,
    absent: Absent,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
enum Of {
    Row(fn(&Row) -> Cell),
    Counter(Counter, Unit, Part),
    Disk(&'static str, usize),
}

/// What of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Held,
    Maxheld,
    Barrier,
    Limit,
    Failcnt,
}

/// What JSON says where there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Null,
    Zero,
    False,
    Seconds,
    Empty,
}

const PARTS: [(Part, &str); 5] = [
    (Part::Held, ""),
    (Part::Maxheld, ".m"),
    (Part::Barrier, ".b"),
    (Part::Limit, ".l"),
    (Part::Failcnt, ".f"),
];

/// Counters in vzlist's order, with their headers.
const COUNTERS: &[(Counter, &str)] = &[
    (Counter::Kmemsize, "KMEMSIZE"),
    (Counter::Lockedpages, "LOCKEDP"),
    (Counter::Privvmpages, "PRIVVMP"),
    (Counter::Shmpages, "SHMP"),
    (Counter::Numproc, "NPROC"),
    (Counter::Physpages, "PHYSP"),
    (Counter::Vmguarpages, "VMGUARP"),
    (Counter::Oomguarpages, "OOMGUARP"),
    (Counter::Numtcpsock, "NTCPSOCK"),
    (Counter::Numflock, "NFLOCK"),
    (Counter::Numpty, "NPTY"),
    (Counter::Numsiginfo, "NSIGINFO"),
    (Counter::Tcpsndbuf, "TCPSNDB"),
    (Counter::Tcprcvbuf, "TCPRCVB"),
    (Counter::Othersockbuf, "OTHSOCKB"),
    (Counter::Dgramrcvbuf, "DGRAMRB"),
    (Counter::Numothersock, "NOTHSOCK"),
    (Counter::Dcachesize, "DCACHESZ"),
    (Counter::Numfile, "NFILE"),
    (Counter::Numiptent, "NIPTENT"),
    (Counter::Swappages, "SWAPP"),
];

/// All columns, in vzlist's order.
pub fn all() -> &'static [Column] {
    static ALL: OnceLock<Vec<Column>> = OnceLock::new();
    ALL.get_or_init(make)
}

/// The column of that name.
pub fn find(name: &str) -> Option<&'static Column> {
    all().iter().find(|column| column.name == name)
}

fn make() -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add =
        |name: &str, header: &str, width: usize, left: bool, absent: Absent, of: fn(&Row) -> Cell| {
            columns.push(Column {
                name: name.to_owned(),
                header: header.to_owned(),
                width,
                left,
                of: Of::Row(of),
                absent,
            });
        };
    let (left, right) = (true, false);
    for name in ["ctid", "veid", "vpsid"] {
        add(name, "CTID", 10, right, Absent::Zero, |row| number(row.ctid()));
    }
    add("private", "PRIVATE", 32, left, Absent::Null, |row| {
        row.private.clone().map_or(Cell::Missing, Cell::Text)
    });
    add("root", "ROOT", 32, left, Absent::Null, |row| {
        let own = row.document.status.init_pid.map(|pid| format!("/proc/{pid}/root"));
        own.or(row.mounted.clone()).map_or(Cell::Missing, Cell::Text)
    });
    add("mount_opts", "MOUNT_OPTS", 16, left, Absent::Null, |row| row.list("disk.mountOptions"));
    add("origin_sample", "ORIGIN_SAMPLE", 32, left, Absent::Null, |row| row.text("profile"));
    add("hostname", "HOSTNAME", 32, left, Absent::Null, |row| match row.text("hostname") {
        Cell::Missing => row.name().map_or(Cell::Missing, Cell::Text),
        known => known,
    });
    add("name", "NAME", 32, left, Absent::Null, |row| row.name().map_or(Cell::Missing, Cell::Text));
    add("smart_name", "SMARTNAME", 10, right, Absent::Null, |row| match row.name() {
        Some(name) => Cell::Text(name),
        None => number(row.ctid()),
    });
    add("description", "DESCRIPTION", 32, left, Absent::Null, |row| row.text("description"));
    add("ostemplate", "OSTEMPLATE", 32, left, Absent::Null, |row| row.text("template"));
    add("ip", "IP_ADDR", 15, left, Absent::Empty, |row| words(row.addresses()));
    add("nameserver", "NAMESERVER", 15, left, Absent::Empty, |row| row.list("network.nameservers"));
    add("searchdomain", "SEARCHDOMAIN", 15, left, Absent::Empty, |row| row.list("network.searchDomains"));
    add("status", "STATUS", 9, left, Absent::Null, |row| Cell::Text(row.status().to_owned()));
    let mut after: Vec<Column> = Vec::new();
    let mut add =
        |name: &str, header: &str, width: usize, left: bool, absent: Absent, of: fn(&Row) -> Cell| {
            after.push(Column {
                name: name.to_owned(),
                header: header.to_owned(),
                width,
                left,
                of: Of::Row(of),
                absent,
            });
        };
    // The host does not tell the load of a part of it.
    add("laverage", "LAVERAGE", 14, right, Absent::Null, |_| Cell::Missing);
    add("uptime", "UPTIME", 15, right, Absent::Seconds, |row| {
        let usage = row.usage.as_ref().filter(|_| row.runs());
        let since = usage.and_then(|usage| Some(usage.at.since(usage.started_at?)));
        since.map_or(Cell::Missing, |since| Cell::Uptime(since.0))
    });
    add("cpulimit", "CPULIM", 7, right, Absent::Null, |row| {
        number(row.number("cpu.cpulimit").filter(|is| *is > 0))
    });
    add("cpuunits", "CPUUNI", 7, right, Absent::Null, |row| {
        number(row.number("cpu.cpuunits").or(Some(1000)))
    });
    add("cpus", "CPUS", 5, right, Absent::Zero, |row| number(row.number("cpu.cpus")));
    add("ioprio", "IOP", 3, right, Absent::Zero, |row| number(row.number("io.ioprio").or(Some(4))));
    add("iolimit", "IOLIMIT", 10, right, Absent::Zero, |row| match row.limit::<ByteRate>("io.iolimit") {
        Some(Limit::At(rate)) => number(Some(rate.bytes())),
        _ => Cell::Missing,
    });
    add("iopslimit", "IOPS", 4, right, Absent::Zero, |row| match row.limit::<OpRate>("io.iopslimit") {
        Some(Limit::At(rate)) => number(Some(rate.get())),
        _ => Cell::Missing,
    });
    add("onboot", "ONBOOT", 6, right, Absent::Null, |row| {
        row.truth("onBoot").map_or(Cell::Missing, Cell::Truth)
    });
    add("bootorder", "BOOTORDER", 10, right, Absent::Null, |row| number(row.number("bootOrder")));
    add("layout", "LAYOUT", 6, left, Absent::Null, |row| {
        let image = row.document.status.resources.get("disk").is_some_and(|disk| disk["backend"] == "image");
        Cell::Text(if image { "ploop" } else { "simfs" }.to_owned())
    });
    add("features", "FEATURES", 15, left, Absent::Null, |row| {
        switches(&row.document.spec["security"]["features"])
    });
    add("vswap", "VSWAP", 5, right, Absent::False, |row| {
        Cell::Truth(row.bounds(Counter::Physpages, Unit::Pages).1 != super::row::UNLIMITED)
    });
    add("disabled", "DISABL", 6, right, Absent::False, |row| {
        Cell::Truth(row.document.metadata.annotations.contains_key(DISABLED))
    });
    add("vm_overcommit", "VM_OVC", 6, right, Absent::Zero, |row| {
        row.overcommit().map_or(Cell::Missing, Cell::Factor)
    });
    add("netfilter", "NETFILTER", 9, left, Absent::Null, |_| Cell::Text("full".to_owned()));
    add("capability", "CAPABILITY", 15, left, Absent::Null, |row| {
        let listed = |key: &str, on: bool| {
            let list =
                row.document.spec["security"]["capabilities"][key].as_array().cloned().unwrap_or_default();
            list.into_iter().filter_map(move |word| Some((word.as_str()?.to_lowercase(), on)))
        };
        let all: Vec<_> = listed("add", true).chain(listed("drop", false)).collect();
        if all.is_empty() { Cell::Missing } else { Cell::Switches(all) }
    });
    for (counter, header) in COUNTERS {
        let unit =
            Counter::ALL.iter().find(|(known, ..)| known == counter).map_or(Unit::Items, |(.., unit)| *unit);
        for (part, suffix) in PARTS {
            columns.push(Column {
                name: format!("{counter}{suffix}"),
                header: format!("{header}{}", suffix.to_uppercase()),
                width: 10,
                left: false,
                of: Of::Counter(*counter, unit, part),
                absent: Absent::Null,
            });
        }
    }
    for (name, header) in [("diskspace", "DQBLOCKS"), ("diskinodes", "DQINODES")] {
        for (at, suffix) in ["", ".s", ".h"].into_iter().enumerate() {
            columns.push(Column {
                name: format!("{name}{suffix}"),
                header: format!("{header}{}", suffix.to_uppercase()),
                width: 10,
                left: false,
                of: Of::Disk(name, at),
                absent: Absent::Null,
            });
        }
    }
    columns.extend(after);
    columns
}

fn number(number: Option<impl Into<i128>>) -> Cell {
    number.map_or(Cell::Missing, |number| Cell::Number(number.into()))
}

fn words(words: Vec<String>) -> Cell {
    if words.is_empty() { Cell::Missing } else { Cell::List(words) }
}

fn switches(map: &serde_json::Value) -> Cell {
    let entries = map.as_object().into_iter().flatten();
    let all: Vec<_> = entries.filter_map(|(name, is)| Some((name.clone(), is.as_bool()?))).collect();
    if all.is_empty() { Cell::Missing } else { Cell::Switches(all) }
}

impl Column {
    /// Whether JSON without `-o` has it: parts of counters are within those.
    pub fn is_whole(&self) -> bool {
        !self.name.contains('.')
    }

    /// Whether what a container uses has to be asked for it.
    pub fn needs_usage(&self) -> bool {
        matches!(self.of, Of::Counter(..)) || self.name == "uptime"
    }

    /// The value.
    pub fn cell(&self, row: &Row) -> Cell {
        match self.of {
            Of::Row(of) => of(row),
            Of::Disk(name, at) => {
                number(row.disk(name).get(at).copied().flatten().filter(|is| at > 0 || *is > 0))
            }
            Of::Counter(counter, unit, part) => {
                let (barrier, limit) = row.bounds(counter, unit);
                let seen = row.counter(counter);
                number(match part {
                    Part::Held => seen.map(|view| view.held.unwrap_or(0)),
                    Part::Maxheld => seen.map(|view| view.maxheld.unwrap_or(0)),
                    Part::Failcnt => seen.map(|view| view.failcnt),
                    Part::Barrier => Some(barrier),
                    Part::Limit => Some(limit),
                })
            }
        }
    }

    /// The header in its place.
    pub fn heading(&self) -> String {
        self.put(&self.header)
    }

    fn put(&self, text: &str) -> String {
        if self.left { format!("{text:<0$}", self.width) } else { format!("{text:>0$}", self.width) }
    }

    /// The value in its place of a line; what is not last may be cut.
    pub fn shown(&self, row: &Row, last: bool, trim: bool) -> String {
        let cell = self.cell(row);
        let text = match &cell {
            Cell::List(words) if !last => words.first().cloned().unwrap_or_default(),
            cell => text(cell),
        };
        let is_text = matches!(cell, Cell::Text(_) | Cell::List(_) | Cell::Switches(_));
        let text = if is_text && trim && !last { text.chars().take(self.width).collect() } else { text };
        self.put(&text)
    }

    /// The value as JSON.
    pub fn json(&self, row: &Row) -> String {
        match self.of {
            Of::Counter(counter, unit, Part::Held) => {
                let (barrier, limit) = row.bounds(counter, unit);
                let seen = row.counter(counter);
                let (held, maxheld, failcnt) = seen.map_or((0, 0, 0), |view| {
                    (view.held.unwrap_or(0), view.maxheld.unwrap_or(0), view.failcnt)
                });
                return format!(
                    "{{\n      \"held\": {held},\n      \"maxheld\": {maxheld},\n      \"barrier\": {barrier},\n      \
                     \"limit\": {limit},\n      \"failcnt\": {failcnt}\n    }}"
                );
            }
            Of::Disk(name, 0) => {
                let [usage, soft, hard] = row.disk(name);
                if usage.is_none() && soft.is_none() && hard.is_none() {
                    return "null".to_owned();
                }
                let [usage, soft, hard] = [usage, soft, hard].map(|number| number.unwrap_or(0));
                return format!(
                    "{{\n      \"usage\": {usage},\n      \"softlimit\": {soft},\n      \"hardlimit\": {hard}\n    }}"
                );
            }
            _ => {}
        }
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self.cell(row) {
            Cell::Missing => match self.absent {
                Absent::Null => "null",
                Absent::Zero => "0",
                Absent::False => "false",
                Absent::Seconds => "0.000",
                Absent::Empty => "[]",
            }
            .to_owned(),
            Cell::Text(text) => quoted(&text),
            Cell::Number(number) => number.to_string(),
            Cell::Truth(is) => is.to_string(),
            Cell::List(words) => {
                format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
            }
            Cell::Switches(all) => {
                let all = all.iter().map(|(name, on)| format!("      {}: {on}", quoted(name)));
                format!("{{\n{}\n    }}", all.collect::<Vec<_>>().join(",\n"))
            }
            Cell::Uptime(millis) => format!("{}.{:03}", millis / 1000, millis % 1000),
            cell @ Cell::Factor(_) => text(&cell),
        }
    }

    /// Which of two rows comes first: what is missing before all else, numbers by number.
    pub fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let (a, b) = (self.cell(a), self.cell(b));
        match (&a, &b) {
            (Cell::Number(a), Cell::Number(b)) => a.cmp(b),
            (Cell::Uptime(a), Cell::Uptime(b)) | (Cell::Factor(a), Cell::Factor(b)) => a.cmp(b),
            (Cell::Truth(a), Cell::Truth(b)) => a.cmp(b),
            (Cell::Missing, Cell::Missing) => Ordering::Equal,
            (Cell::Missing, _) => Ordering::Less,
            (_, Cell::Missing) => Ordering::Greater,
            // A name beside a number: numbers first.
            (Cell::Number(_), _) => Ordering::Less,
            (_, Cell::Number(_)) => Ordering::Greater,
            _ => text(&a).cmp(&text(&b)),
        }
    }
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Missing => "-".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Factor(thousandths) => {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Cell::Truth(is) => if *is { "yes" } else { "no" }.to_owned(),
        Cell::List(words) => words.join(" "),
        Cell::Switches(all) => {
            let all = all.iter().map(|(name, on)| format!("{name}:{}", if *on { "on" } else { "off" }));
            all.collect::<Vec<_>>().join(",")
        }
        Cell::Uptime(millis) => {
            let seconds = millis / 1000;
            let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
            format!("{days:03}d{hours:02}h:{:02}m:{:02}s", seconds / 60 % 60, seconds % 60)
        }
    }
}
