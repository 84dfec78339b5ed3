//! Fetches images from registries, by Debian's skopeo: vzd itself speaks neither TLS nor HTTP to the outside.
//!
//! What a registry may be asked without TLS, mirrors, credentials and signatures are containers-registries.conf(5),
//! containers-auth.json(5) and containers-policy.json(5): skopeo reads them. Nothing that it brings is believed: the caller
//! verifies digests. It has no shell, no terminal and no part of an image's own in its command line.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::document::MAX_DOCUMENT;
use super::error::ImageProblem;
use crate::kernel::process;

/// After that long a registry that says nothing more counts as gone.
const ASK: &str = "2m";
const FETCH: &str = "2h";

/// The manifest or index of an image, byte for byte.
pub(super) fn manifest(reference: &str) -> Result<Vec<u8>, ImageProblem> {
    run(ASK, &["inspect", "--raw", &format!("docker://{reference}")], None)
}

/// Puts manifest, configuration and layers of one image into an empty directory: `manifest.json`, and blobs by the
/// hexadecimal digits of their digest. Nothing is converted, so that digests stay what they were.
pub(super) fn fetch(reference: &str, into: &Path) -> Result<(), ImageProblem> {
    let Some(path) = into.to_str() else {
        return Err(ImageProblem::Unsupported("a templates directory whose name is not UTF-8 is".to_owned()));
    };
    let (from, to) = (format!("docker://{reference}"), format!("dir:{path}"));
    run(FETCH, &["copy", "--quiet", "--preserve-digests", "--remove-signatures", &from, &to], Some(into))
        .map(drop)
}

/// Runs skopeo, for at most so long. `scratch` is for what it does not keep in memory.
fn run(most: &str, args: &[&str], scratch: Option<&Path>) -> Result<Vec<u8>, ImageProblem> {
    let mut command = Command::new("skopeo");
    command.args(["--command-timeout", most]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(dir) = scratch.and_then(Path::parent) {
        command.env("TMPDIR", dir);
    }
    // It would go on writing to a directory that the next vzd removes.
    process::end_with_this_thread(&mut command);
    let mut child = command.spawn().map_err(ImageProblem::NoSkopeo)?;
    let failed = |e: io::Error| ImageProblem::sys("read what skopeo says", e);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let stderr = std::thread::spawn(move || all(err, MAX_DOCUMENT));
    // What is too long is cut off, and its digest is another then.
    let said = all(out, MAX_DOCUMENT);
    let ended = child.wait().map_err(failed)?;
    let told = stderr.join().unwrap_or_default();
    if ended.success() { Ok(said) } else { Err(ImageProblem::Fetch(cause(&String::from_utf8_lossy(&told)))) }
}

/// The first `most` bytes of what a child writes; the rest is read and forgotten.
fn all(from: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        let _ = from.by_ref().take(most).read_to_end(&mut bytes);
        let _ = io::copy(&mut from, &mut io::sink());
    }
    bytes
}

/// The reason within what skopeo writes: `time="..." level=fatal msg="..."`.
fn cause(told: &str) -> String {
    let line = told.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it ended without a word").trim();
    let quoted = line.split_once("msg=").map(|(_, quoted)| quoted.trim());
    let text = quoted.map(|quoted| serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned()));
    text.unwrap_or_else(|| line.to_owned()).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_one_sentence() {
        let told = "time=\"2026-01-01T00:00:00Z\" level=warning msg=\"slow\"\n\
            time=\"2026-01-01T00:00:00Z\" level=fatal msg=\"pinging registry: Get \\\"https://r/v2/\\\": refused\\n\"\n";
        assert_eq!(cause(told), "pinging registry: Get \"https://r/v2/\": refused");
        assert_eq!(cause("unknown flag: --x\n"), "unknown flag: --x");
        assert_eq!(cause(""), "it ended without a word");
    }
}
