//! The text of OpenVZ's /proc/user_beancounters, to the space, as tools read it.

use vzd_state::subsystem::beancounters::{Counter, Enforcement};

use crate::control::{CounterView, VeCounters};

/// The text of OpenVZ's /proc/user_beancounters: 24 rows a VE, four of them dummies, no swappages.
pub fn user_beancounters(ves: &[VeCounters]) -> String {
    let mut text = String::from("Version: 2.5\n");
    let header =
        ["held", "maxheld", "barrier", "limit", "failcnt"].map(|name| format!(" {name:>20}")).concat();
    text += &format!("{:>10}  {:<12}{header}\n", "uid", "resource");
    for ve in ves {
        let mut first = format!("{}:", ve.ctid);
        let mut row = |name: &str, numbers: [u64; 5]| {
            let numbers = numbers.map(|number| format!(" {number:>20}")).concat();
            text += &format!("{:>10}  {name:<12}{numbers}\n", std::mem::take(&mut first));
        };
        for is in ve.counters.iter().filter(|is| is.name != Counter::Swappages) {
            let numbers = [is.held.unwrap_or(0), is.maxheld.unwrap_or(0), is.barrier, is.limit, is.failcnt];
            row(&is.name.to_string(), numbers);
            let dummies = match is.name {
                Counter::Shmpages => 1,
                Counter::Numfile => 3,
                _ => 0,
            };
            (0..dummies).for_each(|_| row("dummy", [0; 5]));
        }
    }
    text
}

/// The same text back, of whatever has written it: a VE's own file, or OpenVZ's. Counters that are not known are left out.
pub fn read(text: &str) -> Result<Vec<VeCounters>, String> {
    let mut ves: Vec<VeCounters> = Vec::new();
    let is_row = |line: &&str| !line.starts_with("Version:") && !line.trim_start().starts_with("uid ");
    for line in text.lines().filter(|line| !line.trim().is_empty()).filter(is_row) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if let Some(uid) = words.first().and_then(|word| word.strip_suffix(':')) {
            let ctid = uid.parse().map_err(|_| format!("`{uid}` is no number of a container"))?;
            ves.push(VeCounters { name: uid.to_owned(), ctid, counters: Vec::new() });
            words.remove(0);
        }
        let wrong = || format!("`{}` is no row of counters", line.trim());
        let (Some(ve), [name, numbers @ ..]) = (ves.last_mut(), &*words) else { return Err(wrong()) };
        let numbers: Vec<u64> = numbers.iter().filter_map(|word| word.parse().ok()).collect();
        let [held, maxheld, barrier, limit, failcnt] = *numbers else { return Err(wrong()) };
        let known = Counter::ALL.into_iter().find(|(_, known, _)| known == name);
        ve.counters.extend(known.map(|(name, _, unit)| CounterView {
            name,
            unit,
            held: Some(held),
            maxheld: Some(maxheld),
            barrier,
            limit,
            failcnt,
            enforcement: Enforcement::Accounted("it was read from a file".to_owned()),
        }));
    }
    Ok(ves)
}

#[cfg(test)]
pub(crate) mod tests {
    use vzd_state::subsystem::beancounters::UNLIMITED;

    use super::*;

    /// A VE whose counters all hold 1, but for the last.
    pub(crate) fn counters() -> VeCounters {
        let view = |(name, _, unit)| CounterView {
            name,
            unit,
            held: (name != Counter::Numiptent).then_some(1),
            maxheld: (name != Counter::Numiptent).then_some(2),
            barrier: 3,
            limit: if name == Counter::Kmemsize { 14_790_164 } else { UNLIMITED },
            failcnt: u64::from(name == Counter::Numproc),
            enforcement: Enforcement::Accounted("x".to_owned()),
        };
        VeCounters { name: "web".to_owned(), ctid: 101, counters: Counter::ALL.map(view).into() }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = user_beancounters(&[counters(), VeCounters { ctid: 7, ..counters() }]);
        let read = read(&text).unwrap();
        assert_eq!(read.iter().map(|ve| ve.ctid).collect::<Vec<_>>(), [101, 7]);
        assert_eq!(user_beancounters(&read), text);
        assert_eq!(super::read("Version: 2.5\n").unwrap(), []);
        for wrong in [
            "kmemsize 1 2 3 4 5",
            "101: kmemsize 1 2 3",
            "web: kmemsize 1 2 3 4 5",
            "101: kmemsize a b c d e",
        ] {
            assert!(super::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_text_is_openvzs_to_the_space() {
        let text = user_beancounters(&[counters()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Version: 2.5");
        assert_eq!(
            lines[1],
            "       uid  resource                     held              maxheld              barrier                limit              failcnt"
        );
        assert_eq!(
            lines[2],
            "      101:  kmemsize                        1                    2                    3             14790164                    0"
        );
        assert_eq!(
            lines[6],
            "            dummy                           0                    0                    0                    0                    0"
        );
        assert!(lines[7].ends_with("  9223372036854775807                    1"), "{}", lines[7]);
        let names: Vec<_> = lines[2..].iter().map(|line| line[12..24].trim_end()).collect();
        assert_eq!(names.len(), 24);
        assert_eq!(
            (names[4], names[20], names[21], names[22], names[23]),
            ("dummy", "dummy", "dummy", "dummy", "numiptent")
        );
    }
}
