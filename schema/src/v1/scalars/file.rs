//! Paths, modes, device numbers.

use super::{ScalarError, shorten, text_scalar};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// An absolute path without `..`, kept without doubled or trailing slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsPath(Box<str>);

impl AbsPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// Whether this is `other` or lies under it.
    pub fn is_at_or_under(&self, other: &str) -> bool {
        self.as_path().starts_with(other)
    }
}

impl FromStr for AbsPath {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let not = |allowed| Err(ScalarError::not(text, "a path", allowed));
        if !text.starts_with('/') {
            return not("give an absolute path, beginning with /");
        }
        if text.len() > 4095 || text.split('/').any(|part| part.len() > 255) {
            return not("it is longer than the kernel allows");
        }
        if text.contains(char::is_control) {
            return not("it may not have control characters");
        }
        let mut path = String::with_capacity(text.len());
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return not("it may not have `..` in it"),
                _ => path.extend(["/", part]),
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self(path.into()))
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_scalar!(AbsPath, "an absolute path", { "type": "string", "pattern": "^/", "maxLength": 4095 });

/// Permission bits, written in octal: `0644`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileMode(u16);

impl FileMode {
    /// A mode, if it has no bits but permissions, setuid, setgid and sticky.
    pub const fn new(bits: u16) -> Option<Self> {
        if bits <= 0o7777 { Some(Self(bits)) } else { None }
    }

    /// The bits.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

impl FromStr for FileMode {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let octal = text.strip_prefix("0o").unwrap_or(text);
        let digits = octal.bytes().all(|b| b.is_ascii_digit());
        let bits = u16::from_str_radix(octal, 8).ok().filter(|_| digits).and_then(Self::new);
        bits.ok_or_else(|| ScalarError::not(text, "a mode", "give octal digits such as 0644"))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

text_scalar!(FileMode, "a mode in octal such as 0644", {
    "type": ["string", "integer"], "pattern": "^(0o)?[0-7]{1,5}$", "examples": ["0644"]
});

/// The number of a device: `major:minor`, or `major:*` for every minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    major: u32,
    minor: Option<u32>,
}

impl DeviceNumber {
    /// The device with these numbers; no minor is every minor.
    pub const fn new(major: u32, minor: Option<u32>) -> Self {
        Self { major, minor }
    }

    /// The driver.
    pub const fn major(self) -> u32 {
        self.major
    }

    /// Which of the driver's devices; `None` is all of them.
    pub const fn minor(self) -> Option<u32> {
        self.minor
    }
}

impl FromStr for DeviceNumber {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let wrong =
            || ScalarError::not(text, "a device number", "give major:minor such as 8:1, or major:* for all");
        // The kernel's dev_t has 12 bits of major and 20 of minor.
        let number = |part: &str, most: u32| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|number| digits && *number <= most).ok_or_else(wrong)
        };
        let (major, minor) = text.split_once(':').ok_or_else(wrong)?;
        let minor = match minor {
            "*" => None,
            minor => Some(number(minor, (1 << 20) - 1)?),
        };
        Ok(Self { major: number(major, (1 << 12) - 1)?, minor })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}:{minor}", self.major),
            None => write!(f, "{}:*", self.major),
        }
    }
}

text_scalar!(DeviceNumber, "a device number such as \"8:1\"", {
    "type": "string", "pattern": "^[0-9]+:([0-9]+|\\*)$", "examples": ["8:1"]
});

/// What a VE may do with a device: some of `r`ead, `w`rite and `m`knod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// Open it for reading.
    pub read: bool,
    /// Open it for writing.
    pub write: bool,
    /// Make a device node for it.
    pub mknod: bool,
}

impl FromStr for Access {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let mut access = Self { read: false, write: false, mknod: false };
        for letter in text.chars() {
            let flag = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.mknod,
                _ => return Err(wrong_access(text)),
            };
            if std::mem::replace(flag, true) {
                return Err(wrong_access(text));
            }
        }
        if text.is_empty() { Err(wrong_access(text)) } else { Ok(access) }
    }
}

fn wrong_access(text: &str) -> ScalarError {
    let text = shorten(text);
    ScalarError::new(format!(
        "`{text}` is not a set of device permissions: give some of r, w and m, each once"
    ))
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        letters.iter().filter(|(given, _)| *given).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

text_scalar!(Access, "device permissions such as rw", { "type": "string", "pattern": "^[rwm]{1,3}$" });
