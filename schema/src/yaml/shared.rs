//! One text for a key that many documents write: a controller holds the documents of hundreds of VEs, whose keys are the same few.
//!
//! Bounded, so that documents full of keys of their own take no memory for good.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// More than the format has fields.
const MOST: usize = 1024;
/// No field has a longer name.
const LONGEST: usize = 40;

/// This text, which is the same one for all who ask, as a rule.
pub(super) fn shared(text: &str) -> Arc<str> {
    static TEXTS: LazyLock<Mutex<HashSet<Arc<str>>>> = LazyLock::new(Mutex::default);
    if text.len() > LONGEST {
        return text.into();
    }
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(text) {
        return Arc::clone(known);
    }
    let new: Arc<str> = text.into();
    if texts.len() < MOST {
        texts.insert(Arc::clone(&new));
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_there_once_and_not_all_of_them_are() {
        assert!(Arc::ptr_eq(&shared("hostname"), &shared("hostname")));
        let long = "x".repeat(LONGEST + 1);
        assert!(!Arc::ptr_eq(&shared(&long), &shared(&long)));
        for number in 0..2 * MOST {
            assert_eq!(&*shared(&number.to_string()), number.to_string());
        }
        assert!(Arc::ptr_eq(&shared("hostname"), &shared("hostname")));
        let last = (2 * MOST).to_string();
        assert!(!Arc::ptr_eq(&shared(&last), &shared(&last)));
    }
}
