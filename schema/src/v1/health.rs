//! How it is found out whether a VE does its work.

use super::defaults;
use super::macros::{group, item};
use super::scalars::{Command, Duration, HttpPath};
use std::num::{NonZeroU16, NonZeroU32};

group! {
    /// A probe of a VE's health: exactly one of `exec`, `tcp` and `http`.
    pub struct Health {
        /// A command inside the VE; healthy if it ends with 0.
        live exec: Option<Command>,
        /// A port inside the VE; healthy if it takes a connection.
        live tcp: Option<TcpProbe>,
        /// A page served inside the VE; healthy if it comes with a status of 200 to 399.
        live http: Option<HttpProbe>,
        /// From one probe to the next.
        live interval: Option<Duration> = defaults::HEALTH_INTERVAL,
        /// How long one probe may take.
        live timeout: Option<Duration> = defaults::HEALTH_TIMEOUT,
        /// From the VE's start to the first probe.
        live initial_delay: Option<Duration> = defaults::HEALTH_INITIAL_DELAY,
        /// This many good probes in a row make it healthy.
        live success_threshold: Option<NonZeroU32> = defaults::HEALTH_SUCCESS_THRESHOLD,
        /// This many bad probes in a row make it unhealthy.
        live failure_threshold: Option<NonZeroU32> = defaults::HEALTH_FAILURE_THRESHOLD,
    }
}

item! {
    /// A connection to a port inside the VE.
    pub struct TcpProbe {
        /// The port.
        live port: NonZeroU16;
    }
}

item! {
    /// A request to a web server inside the VE.
    pub struct HttpProbe {
        /// The port.
        live port: NonZeroU16;
        /// The path of the page.
        live path: Option<HttpPath> = "/",
    }
}
