//! The probe of a VE's health.

use vzd_schema::v1::{self, defaults};

use super::millis;
use crate::subsystem::lifecycle::{Ask, Probe};

/// The probe that a manifest asks for.
pub(super) fn lower(health: &v1::Health) -> Option<Probe> {
    // The schema sees to it that there is one, and only one.
    let exec = || Some(Ask::Exec(health.exec.as_ref()?.words().to_vec()));
    let tcp = || Some(Ask::Tcp { port: health.tcp.as_ref()?.port.get() });
    let http = || {
        let v1::HttpProbe { port, path } = health.http.as_ref()?;
        let path = path.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string);
        Some(Ask::Http { port: port.get(), path })
    };
    Some(Probe {
        ask: exec().or_else(tcp).or_else(http)?,
        interval: millis(health.interval, defaults::HEALTH_INTERVAL),
        timeout: millis(health.timeout, defaults::HEALTH_TIMEOUT),
        initial_delay: millis(health.initial_delay, defaults::HEALTH_INITIAL_DELAY),
        failure_threshold: health.failure_threshold.map_or(defaults::HEALTH_FAILURE_THRESHOLD, u32::from),
        success_threshold: health.success_threshold.map_or(defaults::HEALTH_SUCCESS_THRESHOLD, u32::from),
    })
}
