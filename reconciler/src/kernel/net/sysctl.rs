//! Settings of a network namespace, by a thread that is in it: /proc/sys/net shows each thread its own.

use std::path::PathBuf;

use vzd_state::subsystem::network::canonical;

use crate::error::{At, SysError, SysResult};

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

/// The value of a setting; an error that says it is absent where the kernel has no such setting.
pub fn read_sysctl(name: &str) -> SysResult<String> {
    let path = path(name);
    std::fs::read_to_string(&path).map(|text| canonical(&text)).at("read", path.display())
}

/// Sets a setting, and tells whether it was another before. What the kernel made another value of is an error.
pub fn write_sysctl(name: &str, value: &str) -> SysResult<bool> {
    if read_sysctl(name)? == value {
        return Ok(false);
    }
    let path = path(name);
    std::fs::write(&path, value).map_err(|e| SysError::new("write", path.display(), e).value(value))?;
    let is = read_sysctl(name)?;
    if is != value {
        return Err(SysError::refused("set", name, format!("the kernel made {is} of it")).value(value));
    }
    Ok(true)
}

/// What a setting is in a new namespace. One of an interface is as new interfaces have it.
pub fn default_sysctl(name: &str) -> SysResult<String> {
    let mut parts: Vec<&str> = name.split('.').collect();
    if let ["net", _, "conf" | "neigh", interface, ..] = parts.as_mut_slice()
        && !matches!(*interface, "all" | "default" | "lo")
    {
        *interface = "default";
    }
    let name = parts.join(".");
    super::in_new_namespace(|| read_sysctl(&name))
}
