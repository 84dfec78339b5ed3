//! Bytes to text: the size, the encoding, and the characters that no manifest may hold.

use super::limits;
use crate::code::Code;
use crate::diag::Diagnostic;
use crate::span::{Position, Span};
use std::sync::Arc;

/// The text of a file without its byte-order mark, or why it has none that can be read.
pub(crate) fn decode<'b>(file: &Arc<str>, bytes: &'b [u8]) -> Result<&'b str, Diagnostic> {
    let start = Span::start_of(file);
    if bytes.len() > limits::FILE_BYTES {
        let (size, most) = (bytes.len(), limits::FILE_BYTES);
        return Err(Diagnostic::error(
            Code::TooMuch,
            format!("the file has {size} bytes; {most} are allowed"),
        )
        .at(&start, "")
        .help("split it into several files"));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Diagnostic::error(Code::Encoding, "the file is UTF-16 text")
            .at(&start, "")
            .help("save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = str::from_utf8(bytes).map_err(|wrong| {
        let good = str::from_utf8(&bytes[..wrong.valid_up_to()]).unwrap_or_default();
        let byte = bytes.get(wrong.valid_up_to()).copied().unwrap_or_default();
        Diagnostic::error(
            Code::Encoding,
            format!("the file is not UTF-8 text: byte 0x{byte:02x} does not fit"),
        )
        .at(&span_after(file, good), "")
        .help("save it as UTF-8")
    })?;
    match text.find('\0') {
        Some(at) => Err(Diagnostic::error(Code::Encoding, "the file holds a NUL character")
            .at(&span_after(file, &text[..at]), "")
            .help("is this a text file?")),
        None => Ok(text),
    }
}

/// The place of the character that follows `text`.
fn span_after(file: &Arc<str>, text: &str) -> Span {
    let line = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let start = Position { line: narrow(line), column: narrow(column) };
    Span { file: Arc::clone(file), start, end: Position { column: start.column + 1, ..start } }
}

/// A count within a file of bounded size, which always fits.
pub(super) fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
