//! What somebody probably meant who wrote a field or word that there is not.

use crate::diag::Diagnostic;
use crate::fields::{self, Field};
use crate::v1::Kind;

/// Knows the fields of one kind of document; looks at them only for somebody who has made a mistake.
pub(crate) struct Suggest(Kind);

/// Longer words are no slips of a known one.
const LONGEST: usize = 40;
/// More known fields than that are no help.
const MOST_LISTED: usize = 12;

impl Suggest {
    /// For documents of that kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self(kind)
    }

    fn fields(&self) -> impl Iterator<Item = &'static Field> {
        fields::all().iter().filter(|field| field.kind == self.0)
    }

    /// Adds what was probably meant by a field that is not among the allowed ones of `parent`.
    pub(crate) fn field(&self, error: Diagnostic, parent: &str, name: &str, allowed: &[&str]) -> Diagnostic {
        if let Some(same) = allowed.iter().find(|word| word.eq_ignore_ascii_case(name)) {
            return error.help(format!("did you mean `{same}`?"));
        }
        let elsewhere: Vec<String> = self.fields().filter(|field| field.name() == name).map(under).collect();
        if !elsewhere.is_empty() && elsewhere.len() <= 3 {
            return error.help(format!("`{name}` belongs {}", elsewhere.join(" or ")));
        }
        if let Some(near) = nearest(name, allowed.iter().copied()) {
            return error.help(format!("did you mean `{near}`?"));
        }
        if let Some(near) = nearest(name, self.fields().map(Field::name))
            && let Some(field) = self.fields().find(|field| field.name() == near)
        {
            return error.help(format!("did you mean `{near}`? it belongs {}", under(field)));
        }
        if allowed.is_empty() || allowed.len() > MOST_LISTED {
            let at = if parent.is_empty() { "a document" } else { parent };
            return error.help(format!("`vzd explain {at}` tells the fields there are"));
        }
        error.help(format!("known here: {}", allowed.join(", ")))
    }

    /// Adds what was probably meant by a word that is not among the allowed ones.
    pub(crate) fn word(&self, error: Diagnostic, word: &str, allowed: &[&str]) -> Diagnostic {
        match nearest(word, allowed.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        }
        .help(format!("allowed: {}", allowed.join(", ")))
    }
}

fn under(field: &Field) -> String {
    match field.parent_and_name().0 {
        "" => "at the top of the document".to_owned(),
        parent => format!("under `{parent}`"),
    }
}

/// The word nearest to `name`, if one is near enough to be meant.
fn nearest<'w>(name: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if name.len() > LONGEST {
        return None;
    }
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let allowance = (name.len() / 3).clamp(1, 3);
    words
        .map(|word| (distance(&name, &word.to_lowercase().chars().collect::<Vec<char>>()), word))
        .filter(|(distance, _)| *distance <= allowance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters must be put in, left out, changed or swapped with the next.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = last[j] + usize::from(a[i] != b[j]);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
