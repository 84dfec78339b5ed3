//! The text of OpenVZ's /proc/user_beancounters, to the space, as tools read it.

use vzd_state::subsystem::beancounters::Counter;

use crate::control::VeCounters;

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

#[cfg(test)]
pub(crate) mod tests {
    use vzd_state::subsystem::beancounters::{Enforcement, UNLIMITED};

    use super::*;
    use crate::control::CounterView;

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
