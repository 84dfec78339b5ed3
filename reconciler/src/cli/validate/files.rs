//! Which texts are checked: files, standard input, and whatever the controller would read of a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use vzd_schema::{Code, Diagnostic};

use crate::cli::failure::Failure;
use crate::watch::{Scanner, Trust};

/// One byte more than the parser takes, so that it sees that there is more.
const MOST_BYTES: u64 = (1 << 20) + 1;

/// What is to be checked.
#[derive(Debug, Default)]
pub struct Sources {
    /// Texts, by what messages call them.
    pub texts: Vec<(String, Vec<u8>)>,
    /// What is wrong with a directory itself.
    pub diagnostics: Vec<Diagnostic>,
    /// Files of directories that are not read, and why.
    pub skipped: BTreeMap<String, String>,
}

impl Sources {
    /// Reads what these paths name.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Sources::default();
        for path in paths {
            if path == Path::new("-") {
                sources.add("<stdin>", io::stdin().lock())?;
            } else if path.is_dir() {
                sources.directory(path)?;
            } else {
                sources.file(path)?;
            }
        }
        Ok(sources)
    }

    fn directory(&mut self, dir: &Path) -> Result<(), Failure> {
        let revision = Scanner::new(dir, Trust::Anyone).scan();
        for file in revision.files.keys() {
            self.file(Path::new(&**file))?;
        }
        let about_directory = |diagnostic: &&Diagnostic| diagnostic.code == Code::UnsafeDirectory;
        self.diagnostics.extend(revision.diagnostics.iter().filter(about_directory).cloned());
        self.skipped.extend(revision.skipped.clone());
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let cannot = |error: io::Error| {
            let failure = Failure::new(format!("cannot read {}", path.display()));
            match error.kind() {
                ErrorKind::NotFound => Failure::usage(failure.message).because(error),
                _ => failure.because(error),
            }
        };
        let file = File::open(path).map_err(cannot)?;
        self.add(&path.to_string_lossy(), file)
    }

    fn add(&mut self, name: &str, from: impl Read) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        let read = from.take(MOST_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(format!("cannot read {name}")).because(error))?;
        self.texts.push((name.to_owned(), bytes));
        Ok(())
    }
}
