//! Writes an archive that the kernel unpacks as its first file system. Must know no more of the format than that takes.

/// An archive under way, in the "newc" format.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    entries: usize,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

impl Cpio {
    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, &[]);
    }

    /// Adds a file that may be run.
    pub(super) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE | 0o755, content);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let mode = usize::try_from(mode).unwrap_or(0);
        // ino, mode, uid, gid, nlink, mtime, filesize, dev (2), rdev (2), namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_at_a_multiple_of_four() {
        let mut cpio = Cpio::default();
        cpio.directory("dev");
        cpio.program("init", b"#!");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.match_indices("070701").map(|(at, _)| at % 4).max(), Some(0));
        assert!(text.contains("TRAILER!!!"));
    }
}
