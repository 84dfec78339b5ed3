//! Takes out of a terminal's output what only a terminal understands.

/// Where in an escape sequence the output is; sequences may be split between two reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Plain {
    /// In text.
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence (`ESC [`), which a letter or the like ends.
    Control,
    /// In a string (`ESC ]` and others), which BEL or `ESC \` ends.
    String,
}

impl Plain {
    /// The text of these bytes: lines and tabs stay.
    pub fn of(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().copied().filter(|byte| self.keeps(*byte)).collect()
    }

    fn keeps(&mut self, byte: u8) -> bool {
        let (next, keeps) = match (*self, byte) {
            (_, 0x1b) => (Plain::Escape, false),
            (Plain::Text, b'\n' | b'\t') => (Plain::Text, true),
            (Plain::Text, byte) => (Plain::Text, byte >= 0x20 && byte != 0x7f),
            (Plain::Escape, b'[') => (Plain::Control, false),
            (Plain::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (Plain::String, false),
            // `ESC ( B` and its like have one byte more.
            (Plain::Escape, 0x20..=0x2f) => (Plain::Escape, false),
            (Plain::Escape, _) => (Plain::Text, false),
            (Plain::Control, 0x40..=0x7e) => (Plain::Text, false),
            (Plain::Control, _) => (Plain::Control, false),
            (Plain::String, 0x07) => (Plain::Text, false),
            (Plain::String, _) => (Plain::String, false),
        };
        *self = next;
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_stays_also_when_a_sequence_is_split() {
        let mut plain = Plain::default();
        let mut text = plain.of("a\u{1b}[1;3".as_bytes());
        text.extend(plain.of("1mb\u{1b}]0;title\u{7}c\u{1b}(Bd\r\n\u{8}é\u{1b}]2;x\u{1b}\\e".as_bytes()));
        assert_eq!(String::from_utf8(text).unwrap(), "abcd\née");
    }
}
