//! JSON bodies, read strictly: a field that is not known is refused, since a mistyped one would mean
//! something else than what was asked for.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vzd_schema::Code;

use crate::api::refusal::Refusal;

/// The whole body must be there within that.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body of type `T`.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for Strict<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read_all = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state)).await;
        let bytes = read_all.map_err(|_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::Usage, "the body did not come in time")
        })?;
        let bytes = bytes.map_err(|rejected| {
            let status = rejected.status();
            let status = if status.is_client_error() { status } else { StatusCode::BAD_REQUEST };
            Refusal::new(status, Code::Usage, rejected.body_text())
        })?;
        read(&bytes).map(Strict)
    }
}

fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Refusal> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    let said: Value =
        serde_json::from_slice(bytes).map_err(|wrong| Refusal::bad(format!("not JSON: {wrong}")))?;
    let body: T = serde_json::from_value(said.clone()).map_err(|wrong| Refusal::bad(wrong.to_string()))?;
    // What was understood, written again: whatever is missing from that was not understood.
    let understood = serde_json::to_value(&body).unwrap_or_default();
    match unknown(&said, &understood, "") {
        Some(path) => Err(Refusal::bad(format!("unknown field `{path}`"))),
        None => Ok(body),
    }
}

/// The path of a field that is in one but not in the other.
fn unknown(said: &Value, understood: &Value, path: &str) -> Option<String> {
    let (Value::Object(said), Value::Object(understood)) = (said, understood) else { return None };
    said.iter().find_map(|(name, value)| {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match understood.get(name) {
            None => Some(path),
            Some(other) => unknown(value, other, &path),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PlanRequest;

    #[test]
    fn an_unknown_field_is_refused_at_any_depth() {
        assert_eq!(read::<PlanRequest>(b"").unwrap(), PlanRequest::default());
        let read =
            |text: &str| read::<PlanRequest>(text.as_bytes()).map_err(|refusal| format!("{refusal:?}"));
        assert_eq!(read(r#"{"allowPrune": 3}"#).unwrap().allow_prune, Some(3));
        assert!(read(r#"{"only": {"labels": {"any": "thing"}}}"#).is_ok());
        assert!(read(r#"{"only": {"name": ["x"]}}"#).unwrap_err().contains("`only.name`"));
        assert!(read("[").unwrap_err().contains("not JSON"));
    }
}
