//! Fields of the lifecycle by path, with values as the manifest would write them.

use serde_json::Value;

use super::{ColdSpec, Compression, DeletionPolicy, Desired, Probe, RestartPolicy, Suspend, UpdatePolicy};
use crate::application::Application;
use crate::caps::CapSet;
use crate::ids::VeName;
use crate::subsystem::disk::{MOUNT_OPTIONS, USERS};
use crate::subsystem::json;
use crate::units::Millis;

/// A field with its value before and after.
pub(super) type Pair = (&'static str, Value, Value);

/// A field as the manifest would write it.
trait Shown {
    fn shown(&self) -> Value;
}

macro_rules! shown_as_json {
    ($($type:ty),*) => { $(impl Shown for $type { fn shown(&self) -> Value { json(self) } })* };
}

shown_as_json!(
    RestartPolicy,
    UpdatePolicy,
    DeletionPolicy,
    Compression,
    bool,
    i32,
    Vec<VeName>,
    Option<Suspend>,
    Option<String>
);

impl Shown for Millis {
    fn shown(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Shown for Option<Probe> {
    fn shown(&self) -> Value {
        self.as_ref().map_or(Value::Null, Probe::shown)
    }
}

/// As the manifest says it: what is added to the default set and what is dropped from it.
fn shown_caps(set: CapSet) -> Value {
    let default = CapSet::default();
    let names = |of: CapSet, not: CapSet| -> Vec<_> {
        of.iter().filter(|cap| !not.has(*cap)).map(|cap| cap.name()).collect()
    };
    serde_json::json!({"add": names(set, default), "drop": names(default, set)})
}

/// Every field but `state` and `cold`, as it was and as it is.
pub(super) fn pairs(was: &Desired, is: &Desired) -> Vec<Pair> {
    macro_rules! pairs {
        ($($name:ident => $path:literal),*) => {{
            let Desired { state: _, cold: _, $($name),* } = was;
            let before = [$($name.shown()),*];
            let Desired { state: _, cold: _, $($name),* } = is;
            [$(($path, $name.shown())),*]
                .into_iter().zip(before).map(|((path, is), was)| (path, was, is)).collect()
        }};
    }
    pairs! {
        restart_policy => "spec.restartPolicy",
        update_policy => "spec.updatePolicy",
        deletion_policy => "spec.deletionPolicy",
        stop_timeout => "spec.stopTimeout",
        start_timeout => "spec.startTimeout",
        on_boot => "spec.onBoot",
        boot_order => "spec.bootOrder",
        quarantine_ttl => "spec.quarantineTTL",
        depends_on => "spec.dependsOn",
        health => "spec.health",
        suspend => "spec.suspendReconcile",
        checkpoint_directory => "spec.checkpoint.directory",
        checkpoint_keeps_tcp => "spec.checkpoint.tcpEstablished",
        checkpoint_pre_dump => "spec.checkpoint.preDump",
        checkpoint_compress => "spec.checkpoint.compress",
        checkpoint_keeps_running => "spec.checkpoint.keepRunning",
        reconcile_disabled => "metadata.annotations[vzd/reconcile]"
    }
}

/// Every field of what is fixed at a start, as it was and as it is, on a root whose image says this.
pub(super) fn cold_pairs(was: &ColdSpec, is: &ColdSpec, image: Option<&Application>) -> [Pair; 6] {
    let shown = |cold: &ColdSpec| {
        let ColdSpec { init: _, init_given: _, capabilities, seccomp, nesting, quota_ids, mount_options } =
            cold;
        [
            ("spec.init", json(&cold.command(image))),
            ("spec.security.capabilities", shown_caps(*capabilities)),
            ("spec.security.seccomp", json(seccomp)),
            ("spec.security.features.nesting", json(nesting)),
            (USERS, json(quota_ids)),
            (MOUNT_OPTIONS, json(mount_options)),
        ]
    };
    let mut was = shown(was).into_iter().map(|(_, value)| value);
    shown(is).map(|(field, is)| (field, was.next().unwrap_or_default(), is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_that_is_named_differs_from_the_usual_one_only_where_the_image_has_its_own() {
        let usual = ColdSpec::default();
        let named = ColdSpec { init_given: true, ..ColdSpec::default() };
        let image = Application {
            command: vec!["/app".to_owned()],
            env: Vec::new(),
            dir: "/".to_owned(),
            user: None,
            stop_signal: None,
        };
        let init = |was, is, image| {
            let [(field, was, is), ..] = cold_pairs(was, is, image);
            assert_eq!(field, "spec.init");
            (was, is)
        };
        let (was, is) = init(&usual, &named, None);
        assert_eq!(was, is);
        let (was, is) = init(&usual, &named, Some(&image));
        assert_eq!((was, is), (json(&["/app"]), json(&["/sbin/init"])));
    }
}
