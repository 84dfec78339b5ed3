//! Command lines as getopt_long(3) reads them: long options by any unique beginning, values behind `=` or
//! in the next word, `--` ends the options. Pure.

/// An option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Its long name; empty if it has none.
    pub name: &'static str,
    /// Its short one.
    pub short: Option<char>,
    /// Whether a value belongs to it.
    pub takes: bool,
}

/// An option without a value.
pub const fn flag(name: &'static str) -> Opt {
    Opt { name, short: None, takes: false }
}

/// An option with a value.
pub const fn value(name: &'static str) -> Opt {
    Opt { name, short: None, takes: true }
}

impl Opt {
    /// The same with a short name.
    #[must_use]
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }
}

/// What a command line says, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Options by long name (or short, where they have no other), with their values.
    pub options: Vec<(String, String)>,
    /// What is no option.
    pub words: Vec<String>,
}

impl Said {
    /// Whether an option is there.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| known == name)
    }

    /// Every value of an option.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.options.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The last value of an option.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a command line.
///
/// # Errors
///
/// In words: an option that is unknown, ambiguous, without the value it needs, or with one that it does not take.
pub fn parse(known: &[Opt], words: &[String]) -> Result<Said, String> {
    let mut said = Said::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            said.words.extend(words.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let opt = long_option(known, name)?;
            let value = match (opt.takes, inline) {
                (true, Some(value)) => value,
                (true, None) => {
                    words.next().cloned().ok_or_else(|| format!("option --{} requires a value", opt.name))?
                }
                (false, None) => String::new(),
                (false, Some(_)) => return Err(format!("option --{} takes no value", opt.name)),
            };
            said.options.push((opt.name.to_owned(), value));
        } else if word.len() > 1 && word.starts_with('-') {
            let mut rest = word[1..].chars();
            while let Some(short) = rest.next() {
                let opt = known
                    .iter()
                    .find(|opt| opt.short == Some(short))
                    .ok_or_else(|| format!("invalid option -{short}"))?;
                let name = if opt.name.is_empty() { short.to_string() } else { opt.name.to_owned() };
                if !opt.takes {
                    said.options.push((name, String::new()));
                    continue;
                }
                let inline: String = rest.by_ref().collect();
                let value = if inline.is_empty() {
                    words.next().cloned().ok_or_else(|| format!("option -{short} requires a value"))?
                } else {
                    inline
                };
                said.options.push((name, value));
            }
        } else {
            said.words.push(word.clone());
        }
    }
    Ok(said)
}

/// The option of exactly that name, or the only one that begins with it.
fn long_option<'o>(known: &'o [Opt], name: &str) -> Result<&'o Opt, String> {
    if let Some(exact) = known.iter().find(|opt| opt.name == name) {
        return Ok(exact);
    }
    let mut begin = known.iter().filter(|opt| !name.is_empty() && opt.name.starts_with(name));
    match (begin.next(), begin.next()) {
        (Some(opt), None) => Ok(opt),
        (Some(first), Some(second)) => {
            Err(format!("option --{name} is ambiguous: --{} or --{}", first.name, second.name))
        }
        (None, _) => Err(format!("unrecognized option --{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Opt] = &[
        value("numproc"),
        value("numpty"),
        flag("save").short('s'),
        value("sort").short('o'),
        flag("").short('1'),
    ];

    fn read(words: &[&str]) -> Result<Said, String> {
        parse(KNOWN, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_known_by_any_unique_beginning() {
        let said = read(&["--numpr", "240:260", "101", "--sav", "--numpty=4", "--", "--save"]).unwrap();
        let options: Vec<_> =
            said.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(options, [("numproc", "240:260"), ("save", ""), ("numpty", "4")]);
        assert_eq!(said.words, ["101", "--save"]);
        assert_eq!(read(&["-1so", "ctid"]).unwrap().last("sort"), Some("ctid"));
        assert_eq!(read(&["-octid"]).unwrap().last("sort"), Some("ctid"));
    }

    #[test]
    fn what_is_not_clear_is_an_error() {
        for (words, why) in [
            (&["--nump"][..], "ambiguous"),
            (&["--numprocs", "1"], "unrecognized"),
            (&["--numproc"], "requires a value"),
            (&["--save=1"], "takes no value"),
            (&["-x"], "invalid option -x"),
            (&["-o"], "requires a value"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.contains(why), "{words:?}: {error}");
        }
    }
}
