//! The network of a VE that starts: its links to the host, with what is set and filtered in its namespace.
//!
//! A child of the starter makes it among the host's mounts, while the starter builds the VE's tree: neither needs the other.
//! Nothing of the VE may run before [`Underway::end`].

use std::os::fd::OwnedFd;

use crate::error::{SysError, SysResult};
use crate::kernel::net::{self, Announced, Links, Netlink};
use crate::kernel::ns::{self, Namespace};
use crate::kernel::process::{self, SingleThreaded};
use crate::kernel::{pin, seqpacket};
use crate::runtime::spec::StartSpec;

/// A network that is being made. When it is dropped, nobody makes anything of it any more.
#[derive(Debug)]
pub(super) struct Underway {
    socket: OwnedFd,
    builder: Option<process::Child>,
}

/// Begins to make the network in the namespace. `host_mounts`: where the host's files are, if not where this process is.
pub(super) fn begin(
    proof: SingleThreaded,
    spec: &StartSpec,
    netns: &Namespace,
    host_mounts: Option<&Namespace>,
) -> SysResult<Underway> {
    let (ours, theirs) = seqpacket::pair()?;
    let starter = rustix::process::getpid();
    let builder = process::fork(proof, || {
        let mut announced = Vec::new();
        let made = process::end_with(starter).and_then(|()| {
            host_mounts.map_or(Ok(()), Namespace::join)?;
            make(proof, spec, netns, &mut announced)
        });
        i32::from(seqpacket::send(&theirs, &made, &[]).is_err())
    })?;
    Ok(Underway { socket: ours, builder: Some(builder) })
}

impl Underway {
    /// Waits until it is made.
    pub(super) fn end(mut self) -> SysResult<()> {
        match seqpacket::recv::<SysResult<()>>(&self.socket)? {
            Some((made, _)) => made?,
            None => return Err(SysError::refused("make", "the network of a VE", "its process ended")),
        }
        // It is longer about closing what it has announced with than anybody should wait.
        self.builder = None;
        Ok(())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(builder) = self.builder.take() {
            let _ = builder.kill();
        }
    }
}

/// Makes all of it, and ends up in the VE's namespace.
fn make(
    proof: SingleThreaded,
    spec: &StartSpec,
    netns: &Namespace,
    announced: &mut Vec<Announced>,
) -> SysResult<()> {
    if let Some(handed) = &spec.handed {
        pin::pin(netns, &handed.pin)?;
    }
    let links = make_links(spec, netns)?;
    ns::in_child_in(proof, netns, || net::set_up(&links))?;
    connect_links(&links)?;
    // Not before: what comes for an address that the host has no way to is sent back to where it came from.
    announced.extend(spec.neighbours.iter().filter_map(|(link, addresses)| net::announce(link, addresses)));
    netns.join()?;
    announced.extend(links.announced().filter_map(|(name, addresses)| net::announce(name, &addresses)));
    Ok(())
}

/// What is set in the namespace of a VE whether or not it is linked to anything.
pub(super) fn unlinked(spec: &StartSpec) -> Links<'_> {
    Links {
        sysctls: &spec.sysctls,
        routes: &spec.routes,
        rules: &spec.rules,
        firewall: spec.firewall.as_deref(),
        ..Links::default()
    }
}

/// Makes the VE's links to the host, whose other ends wait for [`net::set_up`].
fn make_links<'s>(spec: &'s StartSpec, netns: &Namespace) -> SysResult<Links<'s>> {
    let mut links = Links { macvlans: &spec.macvlans, ..unlinked(spec) };
    let mut host = Netlink::open()?;
    if let Some(venet) = &spec.venet {
        links.venet = Some((venet, venet.make(&mut host, netns.as_fd())?));
    }
    for bridged in &spec.bridged {
        links.bridged.push((bridged, bridged.make(&mut host, netns.as_fd())?));
    }
    spec.macvlans.iter().try_for_each(|macvlan| macvlan.make(&mut host, netns.as_fd()))?;
    if let Some(handed) = &spec.handed {
        handed.carry_out(&mut host, netns)?;
    }
    if !spec.shapes.is_empty() {
        let ends = links.venet.iter().map(|(_, ends)| ends).chain(links.bridged.iter().map(|(_, ends)| ends));
        let ends: Vec<u32> = ends.map(|ends| ends.host).collect();
        let ends: Vec<_> = host.links()?.into_iter().filter(|link| ends.contains(&link.index)).collect();
        for shape in &spec.shapes {
            shape.set(&mut host, &ends)?;
        }
    }
    Ok(links)
}

/// Has the host and its bridges let the VE's packets through, now that its ends are up.
fn connect_links(links: &Links<'_>) -> SysResult<()> {
    if links.venet.is_some() || !links.bridged.is_empty() {
        let mut host = Netlink::open()?;
        if let Some((_, ends)) = links.venet {
            host.await_carrier(ends.host)?;
        }
        links.bridged.iter().try_for_each(|(bridged, ends)| bridged.connect(&mut host, *ends))?;
    }
    Ok(())
}
