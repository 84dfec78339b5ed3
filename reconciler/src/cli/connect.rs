//! Who answers: the running controller, or this process itself when there is none.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use vzd_schema::{Code, Diagnostic};

use crate::api::client::Client;
use crate::cli::{Context, plan};
use crate::control::{Control, ControlError, ControlResult};
use crate::engine::{self, Access};
use crate::settings::Settings;

/// The controller if one answers on the socket, else an engine in this process, which holds the host's
/// lock if it is to write.
pub fn connect(settings: &Settings, access: Access) -> ControlResult<Box<dyn Control>> {
    match client(settings)? {
        Some(client) => Ok(Box::new(client)),
        None => engine::local(settings, access),
    }
}

/// The same for a command that only looks: it says which records cannot be read, so that nobody takes the
/// VEs that they are of for absent. A controller does not run with such.
pub fn look(cx: &Context) -> ControlResult<Box<dyn Control>> {
    if let Some(client) = client(&cx.settings)? {
        return Ok(Box::new(client));
    }
    let engine = engine::local(&cx.settings, Access::Read)?;
    plan::diagnose(&unreadable(&*engine)?, &cx.out);
    Ok(engine)
}

/// Which records cannot be read.
pub fn unreadable(control: &dyn Control) -> ControlResult<Vec<Diagnostic>> {
    let diagnostics = control.info()?.diagnostics.into_iter();
    Ok(diagnostics.filter(|is| is.code == Code::RecordUnreadable).collect())
}

fn client(settings: &Settings) -> ControlResult<Option<Client>> {
    let socket = settings.socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Client::new(&socket).map(Some),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
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
