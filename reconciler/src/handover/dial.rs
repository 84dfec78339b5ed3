//! The end that asks, by TLS: joins this process's standard input and output to another host's `vzd receive`, once either
//! host has seen that the other one is who it should be. As a program, so that what speaks over it need not know.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vzd_schema::Code;
use vzd_schema::v1::Endpoint;
use vzd_state::placement::HostName;

use crate::engine::clock;
use crate::handover::wire;
use crate::pki::{Pki, Trouble, tls};

/// Neither connecting nor the certificates take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Speaks with the host that answers there, which has to be called `name`; if that is not said, it has to have a
/// certificate for what it is reached by.
pub fn speak(pki: &Pki, address: &Endpoint, name: Option<&HostName>) -> Result<(), Trouble> {
    let own = pki.own(clock::now())?;
    let config = tls::client(&own)?;
    let called = name.map_or_else(|| address.host().to_owned(), ToString::to_string);
    let server = ServerName::try_from(called.clone()).map_err(|_| {
        Trouble::new(format!("{called:?} cannot be the name in a certificate"), "give that host another name")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Trouble::new(format!("cannot begin: {e}"), "free memory and descriptors"))?;
    let spoken = runtime.block_on(async {
        let failed = |e: io::Error| {
            let what = format!("{address}: {}", tls::words(&e, &called));
            let trouble = |code, cure: &str| Trouble { code, ..Trouble::new(what, cure) };
            match tls::error_in(&e) {
                Some(_) => trouble(Code::Certificates, "`vzd pki show` tells whose certificate a host has, until when, of which CA"),
                None => trouble(
                    Code::HandoverRefused,
                    "see that vzd runs there and `vzd status` there tells of no trouble, that its host's `listen` names that address, and \
                     that no firewall is between",
                ),
            }
        };
        let connected = within(TcpStream::connect((address.host(), address.port()))).await.map_err(&failed)?;
        wire::prepare(&connected).map_err(&failed)?;
        let stream = within(TlsConnector::from(config).connect(server, connected)).await.map_err(&failed)?;
        let (from, mut to) = tokio::io::split(stream);
        let said = wire::carry(tokio::io::stdin(), &mut to);
        let mut out = tokio::io::stdout();
        let heard = async {
            wire::carry(from, &mut out).await?;
            out.flush().await
        };
        wire::until(heard, said).await.map_err(&failed)
    });
    // A thread may still wait for standard input, which may never end.
    runtime.shutdown_background();
    spoken
}

async fn within<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let slow =
        |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, what).await.map_err(slow)?
}
