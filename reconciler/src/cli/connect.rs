//! Who answers: the running controller, or this process itself when there is none.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use vzd_schema::Code;

use crate::api::client::Client;
use crate::control::{Control, ControlError, ControlResult};
use crate::engine::{self, Access};
use crate::settings::Settings;

/// The controller if one answers on the socket, else an engine in this process, which holds the host's
/// lock if it is to write.
pub fn connect(settings: &Settings, access: Access) -> ControlResult<Box<dyn Control>> {
    let socket = settings.socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Ok(Box::new(Client::new(&socket)?)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            engine::local(settings, access)
        }
        Err(error) => Err(ControlError {
            code: Code::DaemonUnreachable.to_string(),
            message: format!("cannot connect to {}: {error}", socket.display()),
            help: (error.kind() == ErrorKind::PermissionDenied)
                .then(|| "root and members of the group `vzd` may ask the controller".to_owned()),
        }),
    }
}

/// Whether a controller answers.
pub fn is_served(settings: &Settings) -> bool {
    UnixStream::connect(settings.socket()).is_ok()
}
