//! Configuration files of OpenVZ, `CTID.conf` and `ve-NAME.conf-sample`: their text to keys with values. Pure.

/// A key with its value, and the line it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// In capitals, as it is written.
    pub key: String,
    /// Without quotes and escapes.
    pub value: String,
    /// From 1.
    pub line: usize,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// Each key once: of a scalar the first, of a counter the last, as vzctl reads them.
    pub settings: Vec<Setting>,
    /// What is no `KEY="value"`, and keys that are written again: the line, and what about it.
    pub problems: Vec<(usize, String)>,
}

/// Whether of that key the last value counts.
fn last_counts(key: &str) -> bool {
    use super::params::{Home, by_key};
    let home = by_key(key).map(|param| param.home);
    matches!(home, Some(Home::Bytes(_) | Home::Pages(_) | Home::Count(_) | Home::Memory(..)))
}

/// Reads a file; what is wrong with a line concerns that line alone.
pub fn parse(text: &str) -> Conf {
    let mut conf = Conf::default();
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = setting(line) else {
            conf.problems.push((line_number, format!("`{line}` is no KEY=\"value\"")));
            continue;
        };
        let setting = Setting { key: key.to_owned(), value, line: line_number };
        match conf.settings.iter_mut().find(|known| known.key == key) {
            None => conf.settings.push(setting),
            Some(known) if known.value == setting.value => {}
            Some(known) => {
                let (used, lost) = if last_counts(key) {
                    let lost = std::mem::replace(known, setting);
                    (known.line, lost)
                } else {
                    (known.line, setting)
                };
                let message = format!("{key}=\"{}\" is not used: line {used} says it too", lost.value);
                conf.problems.push((lost.line, message));
            }
        }
    }
    conf
}

impl Conf {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|is| is.key == key).map(|is| is.value.as_str())
    }
}

/// The same text with another value in a line that sets one; no other line is touched.
pub fn with(text: &str, line: usize, value: &str) -> String {
    let replaced = text.split_inclusive('\n').enumerate().map(|(at, old)| {
        let (content, end) = old.split_at(old.trim_end_matches(['\n', '\r']).len());
        match content.split_once('=').filter(|_| at + 1 == line) {
            Some((key, rest)) => {
                let comment = rest.rfind(" #").map_or("", |at| &rest[rest[..at].trim_end().len()..]);
                format!("{key}=\"{value}\"{comment}{end}")
            }
            None => old.to_owned(),
        }
    });
    replaced.collect()
}

/// `KEY=value`, `KEY="value"`, with what may follow the quotes being a comment.
fn setting(line: &str) -> Option<(&str, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, rest) = line.split_once('=')?;
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_key(key.trim()) {
        return None;
    }
    let rest = rest.trim();
    let mut chars = rest.chars();
    let quote = chars.clone().next().filter(|first| matches!(first, '"' | '\''));
    if quote.is_some() {
        chars.next();
    }
    let mut value = String::new();
    loop {
        match chars.next() {
            Some('\\') if quote != Some('\'') => value.push(chars.next()?),
            Some(c) if Some(c) == quote => break,
            Some('#') if quote.is_none() && value.ends_with([' ', '\t']) => break,
            Some(c) => value.push(c),
            None if quote.is_some() => return None,
            None => break,
        }
    }
    if quote.is_some() {
        let rest = chars.as_str().trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            return None;
        }
    }
    let value = if quote.is_some() { value } else { value.trim_end().to_owned() };
    Some((key.trim(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_vzctl_reads_them() {
        let conf = parse(
            "# a comment\nHOSTNAME=\"a\\\"b\"\n  KMEMSIZE=1:2\nKMEMSIZE=\"3:4\" # again\nNAME='x y'\nNAME=\"z\"\nwhat is this\nA=\"open\nB=\n",
        );
        let said: Vec<_> =
            conf.settings.iter().map(|is| (is.key.as_str(), is.value.as_str(), is.line)).collect();
        assert_eq!(said, [("HOSTNAME", "a\"b", 2), ("KMEMSIZE", "3:4", 4), ("NAME", "x y", 5), ("B", "", 9)]);
        let lines: Vec<_> = conf.problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 6, 7, 8]);
    }
}
