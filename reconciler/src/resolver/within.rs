//! VEs that no way leads from to the resolver: it has a socket in each one's own network namespace, at its loopback.
//!
//! So such a VE gets no link that it was not given and reaches nothing else of the host, and who asks is known by where the
//! socket is. A socket keeps its namespace, and with it interfaces that are to go back to the host: it goes as soon as the
//! VE's init has ended, whatever the controller is at. Datagrams only: a listener for connections would be in the way of a
//! server of the VE's own that listens at every address.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use vzd_state::ids::VeUid;
use vzd_state::names::WITHIN;

use super::{Resolver, serve};
use crate::drivers::Running;
use crate::error::SysResult;
use crate::kernel::net;
use crate::kernel::ns::{self, Kind, Namespace};
use crate::kernel::pidfd::Pidfd;

/// The VEs that are answered so.
#[derive(Debug, Default)]
pub(super) struct Within {
    /// Where tasks run; none while the resolver does not.
    tasks: Option<Handle>,
    ves: BTreeMap<VeUid, Place>,
}

/// One that is answered.
#[derive(Debug)]
struct Place {
    /// Its init, by which it is known whether this is the same run.
    pid: i32,
    task: JoinHandle<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Within {
    pub(super) fn new(runtime: &Runtime) -> Self {
        Within { tasks: Some(runtime.handle().clone()), ves: BTreeMap::new() }
    }

    /// Listens, unless that is so already.
    pub(super) fn begin(
        &mut self,
        resolver: &Arc<Resolver>,
        (uid, ctid): (&VeUid, u32),
        running: &Running,
    ) -> SysResult<()> {
        let Some(tasks) = &self.tasks else { return Ok(()) };
        let same = |place: &Place| place.pid == running.pid && !place.task.is_finished();
        if self.ves.get(uid).is_some_and(same) {
            return Ok(());
        }
        self.ves.remove(uid);
        let netns = Namespace::of(running.pid, Kind::Net)?;
        let init = running.pidfd().try_clone()?;
        if !running.is_alive() {
            return Ok(());
        }
        let socket =
            ns::on_thread_in(&netns, || net::datagrams_beside_others(SocketAddr::new(WITHIN, serve::PORT)))?;
        let task = tasks.spawn(until_the_end(resolver.clone(), socket, ctid, init));
        self.ves.insert(uid.clone(), Place { pid: running.pid, task });
        Ok(())
    }

    /// Listens no longer.
    pub(super) fn end(&mut self, uid: &VeUid) {
        self.ves.remove(uid);
    }
}

/// Answers until the VE's init has ended.
async fn until_the_end(resolver: Arc<Resolver>, socket: std::net::UdpSocket, ctid: u32, init: Pidfd) {
    tokio::select! {
        biased;
        ended = init.ended() => ended.unwrap_or_else(|error| tracing::error!(%error, "a VE is not answered")),
        () = serve::take_datagrams(resolver, socket, Some(ctid)) => {}
    }
}
