//! What a user inside a VE logs in with. Messages here never quote a password.

use super::ScalarError;
use super::text_scalar;
use std::fmt;
use std::str::FromStr;

/// A password as it stands in /etc/shadow: a hash of crypt(5), or `*` and `!` for none that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl FromStr for PasswordHash {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let hash = text.strip_prefix('$').and_then(|rest| rest.split_once('$'));
        let method = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let valid =
            hash.is_some_and(|(id, rest)| method(id) && !rest.is_empty()) || text.starts_with(['*', '!']);
        let one_word = text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if valid && one_word {
            return Ok(Self(text.into()));
        }
        Err(ScalarError::new(
            "this is not a password's hash: give what `mkpasswd -m yescrypt` prints (`$y$...`), or `*` for no password",
        ))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_scalar!(PasswordHash, "a password's hash such as $y$...", {
    "type": "string", "pattern": "^([$][-A-Za-z0-9]+[$]|[*!])[!-9;-~]*$"
});

/// A line of `authorized_keys` (sshd(8)): options if any, the kind of key, the key, a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey(Box<str>);

impl FromStr for SshKey {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        const KINDS: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];
        let line = text.trim();
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let is_key =
            |pair: &[&str]| KINDS.iter().any(|kind| pair[0].starts_with(kind)) && pair[1].starts_with("AAAA");
        if line.len() > 16 * 1024 || line.starts_with('#') || line.chars().any(char::is_control) {
            return Err(ScalarError::not(line, "a public key", "give one line of at most 16 KiB"));
        }
        if words.windows(2).any(is_key) {
            return Ok(Self(line.into()));
        }
        Err(ScalarError::not(line, "a public key", "give the line of a file such as id_ed25519.pub"))
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_scalar!(SshKey, "a public key such as ssh-ed25519 AAAA...", {
    "type": "string", "pattern": "(ssh-|ecdsa-|sk-)[^ ]* +AAAA"
});
