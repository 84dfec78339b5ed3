//! What stands behind the `?` of an address. Written and read here, so that client and server agree.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::api::refusal::Refusal;
use crate::control::{EventQuery, Selector};

/// Parameters of a request, each once.
#[derive(Debug, Default)]
pub struct Parameters(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Parameters::read(parts.uri.query().unwrap_or_default())
    }
}

impl Parameters {
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(value)
                .ok_or_else(|| Refusal::bad(format!("parameter `{name}` is not well-formed")))?;
            if parameters.insert(name.to_owned(), decoded).is_some() {
                return Err(Refusal::bad(format!("parameter `{name}` is given twice")));
            }
        }
        Ok(Parameters(parameters))
    }

    /// Takes a text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Takes a text that must be there.
    pub fn required(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name).ok_or_else(|| Refusal::bad(format!("parameter `{name}` is missing")))
    }

    /// Takes a value, such as a number or `true`.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Refusal::bad(format!("parameter `{name}` cannot be `{text}`")))
    }

    /// Takes a selection of VEs: `names=a,b`, `labels=k=v,l=w`, `all=true`.
    pub fn selector(&mut self) -> Result<Selector, Refusal> {
        let list = |text: Option<String>| -> Vec<String> {
            text.unwrap_or_default().split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let names = list(self.text("names"));
        let labels = list(self.text("labels")).into_iter().map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| Refusal::bad("a label is key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        });
        let labels = labels.collect::<Result<_, Refusal>>()?;
        Ok(Selector { names, labels, all: self.value("all")?.unwrap_or(false) })
    }

    /// Takes which events are wanted.
    pub fn events(&mut self) -> Result<EventQuery, Refusal> {
        let wait_ms = self.value("waitMs")?.unwrap_or(0);
        Ok(EventQuery { ve: self.text("ve"), after: self.value("after")?, wait_ms })
    }

    /// That was all: whatever is left is not known.
    pub fn end(&self) -> Result<(), Refusal> {
        match self.0.keys().next() {
            Some(name) => Err(Refusal::bad(format!("unknown parameter `{name}`"))),
            None => Ok(()),
        }
    }
}

/// An address with parameters; those without a value are left out.
pub fn address(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given =
        parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_ref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The parameters of a selection.
pub fn of_selector(select: &Selector) -> [(&'static str, Option<String>); 3] {
    let labels: Vec<_> = select.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let list = |items: String| (!items.is_empty()).then_some(items);
    [
        ("names", list(select.names.join(","))),
        ("labels", list(labels.join(","))),
        ("all", select.all.then(|| "true".to_owned())),
    ]
}

/// Percent-encodes everything but plain characters, for a parameter or a step of a path.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,=/[]".contains(&byte);
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_survives_its_address() {
        let select = Selector {
            names: vec!["web".to_owned(), "101".to_owned()],
            labels: [("role".to_owned(), "böse & \"x\"+%".to_owned())].into(),
            all: false,
        };
        let address = address("/v1/ves", &of_selector(&select));
        let (_, query) = address.split_once('?').unwrap();
        let mut parameters = Parameters::read(query).unwrap();
        assert_eq!(parameters.selector().unwrap(), select);
        assert!(parameters.end().is_ok());
    }

    #[test]
    fn what_is_unknown_doubled_or_broken_is_refused() {
        assert!(Parameters::read("a=1").unwrap().end().is_err());
        for broken in ["a=1&a=2", "a=%zz", "a=%f", "a=%ff"] {
            assert!(Parameters::read(broken).is_err(), "{broken}");
        }
        assert!(Parameters::read("after=x").unwrap().events().is_err());
    }
}
