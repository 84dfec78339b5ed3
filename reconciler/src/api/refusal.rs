//! Errors as HTTP answers: the status that fits the code, and the error itself as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use vzd_schema::Code;

use crate::control::ControlError;

/// An answer that refuses.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: ControlError,
}

impl Refusal {
    /// A refusal of the server's own.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Refusal {
            status,
            error: ControlError { code: code.to_string(), message: message.into(), help: None },
        }
    }

    /// A request that makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, Code::Usage, message)
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Refusal { status: status(&error.code), error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

fn status(code: &str) -> StatusCode {
    match code.parse() {
        Ok(Code::NoSuchVe) => StatusCode::NOT_FOUND,
        Ok(Code::Usage) => StatusCode::BAD_REQUEST,
        Ok(
            Code::WorldMoved
            | Code::PruneGuard
            | Code::RecreateRefused
            | Code::RestartRequired
            | Code::SnapshotRefused
            | Code::MountRefused
            | Code::CloneRefused
            | Code::HandoverRefused
            | Code::Locked,
        ) => StatusCode::CONFLICT,
        Ok(Code::DaemonUnreachable | Code::KeeperUnreachable) => StatusCode::SERVICE_UNAVAILABLE,
        Ok(code) if code.as_str().starts_with("VZ01") => StatusCode::UNPROCESSABLE_ENTITY,
        Ok(_) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
