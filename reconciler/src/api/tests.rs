//! Client and server over a real socket, with a control that answers by rote.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vzd_state::status::Document;

use crate::api::client::Client;
use crate::api::server::{Serving, serve};
use crate::control::{
    ApplyOutcome, CloneRequest, CloneState, Cloned, Control, ControlError, ControlResult, Entrance,
    EventQuery, Info, LoggedEvent, MountRequest, Outcomes, PlanRequest, PlanView, PowerAction, PowerRequest,
    Reinstall, Selector, Snapshot, SnapshotAction, SnapshotNote, SnapshotRequest, TransientRequest,
    VeCounters, VeNetwork, VeUsage, Why,
};

use crate::handover;

struct Rote;

fn refused(code: &str) -> ControlError {
    ControlError { code: code.to_owned(), message: "no".to_owned(), help: Some("try".to_owned()) }
}

impl Control for Rote {
    fn list(&self, select: &Selector, quarantined: bool) -> ControlResult<Vec<Document>> {
        let document = |name: &String| {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "vzd/v1", "kind": "VE", "spec": {"quarantined": quarantined},
                "metadata": {"name": name, "generation": 1}, "status": {"conditions": []},
            }))
        };
        Ok(select.names.iter().map(|name| document(name).unwrap()).collect())
    }
    fn plan(&self, request: &PlanRequest) -> ControlResult<PlanView> {
        Ok(PlanView { text: format!("{request:?}"), exit_code: 3, ..PlanView::default() })
    }
    fn apply(&self, _: &PlanRequest) -> ControlResult<ApplyOutcome> {
        Err(refused("VZ0205"))
    }
    fn handover(&self, _: &handover::Request) -> ControlResult<handover::Answer> {
        Err(refused("VZ0503"))
    }
    fn drift(&self, _: &Selector) -> ControlResult<PlanView> {
        panic!("as a bug would")
    }
    fn power(&self, request: &PowerRequest) -> ControlResult<Outcomes> {
        assert!(request.force && request.action == PowerAction::Stop);
        Ok([("web".to_owned(), None), ("db".to_owned(), Some(refused("VZ0303")))].into())
    }
    fn transient(&self, _: &TransientRequest) -> ControlResult<()> {
        Ok(())
    }
    fn undelete(&self, name: &str) -> ControlResult<()> {
        if name == "web" { Ok(()) } else { Err(refused("VZ0307")) }
    }
    fn reinstall(&self, request: &Reinstall) -> ControlResult<()> {
        if request.keep_users { Ok(()) } else { Err(refused("VZ0203")) }
    }
    fn clone_ve(&self, request: &CloneRequest) -> ControlResult<Cloned> {
        let (name, manifest) = (request.name.clone(), "/web02.yaml".into());
        Ok(Cloned { name, ctid: 102, manifest, left_out: Vec::new(), failed: Some(refused("VZ0301")) })
    }
    fn mount(&self, request: &MountRequest) -> ControlResult<()> {
        if request.at.is_some() { Ok(()) } else { Err(refused("VZ0312")) }
    }
    fn snapshots(&self, ve: &str) -> ControlResult<Vec<Snapshot>> {
        let name = format!("of-{ve}");
        Ok(vec![Snapshot {
            name,
            created_at: vzd_state::units::Timestamp(0),
            running: true,
            memory: false,
            note: SnapshotNote::default(),
        }])
    }
    fn snapshot(&self, request: &SnapshotRequest) -> ControlResult<()> {
        match request.action {
            SnapshotAction::Create | SnapshotAction::Export | SnapshotAction::Import => Ok(()),
            SnapshotAction::Revert | SnapshotAction::Delete => Err(refused("VZ0310")),
        }
    }
    fn events(&self, query: &EventQuery) -> ControlResult<Vec<LoggedEvent>> {
        std::thread::sleep(Duration::from_millis(query.wait_ms));
        Ok(Vec::new())
    }
    fn why(&self, ve: &str, field: &str) -> ControlResult<Why> {
        let (field, value) = (field.to_owned(), ve.into());
        Ok(Why {
            field,
            value,
            default: None,
            source: None,
            profile: None,
            update: None,
            observed: None,
            held: None,
            transient: None,
        })
    }
    fn entrances(&self, _: &Selector) -> ControlResult<Vec<Entrance>> {
        Ok(Vec::new())
    }
    fn counters(&self, _: &Selector) -> ControlResult<Vec<VeCounters>> {
        Ok(Vec::new())
    }
    fn networks(&self, _: &Selector) -> ControlResult<Vec<VeNetwork>> {
        Ok(Vec::new())
    }
    fn usage(&self, _: &Selector) -> ControlResult<Vec<VeUsage>> {
        Ok(Vec::new())
    }
    fn info(&self) -> ControlResult<Info> {
        Ok(Info::default())
    }
    fn wait(&self, _: &Selector, _: &str, _: &str, timeout_ms: u64) -> ControlResult<bool> {
        Ok(timeout_ms > 100)
    }
}

fn served() -> (tempfile::TempDir, Serving, Client) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vzd.sock");
    let serving = serve(UnixListener::bind(&socket).unwrap(), None, Arc::new(Rote)).unwrap();
    let client = Client::new(&socket).unwrap();
    (dir, serving, client)
}

#[test]
fn questions_and_answers_survive_the_way() {
    let (_dir, _serving, client) = served();
    let many = Selector { names: (0..450).map(|n| format!("ve{n}")).collect(), ..Selector::default() };
    let list = client.list(&many, true).unwrap();
    assert_eq!(list.len(), 450);
    assert_eq!(list[449].metadata.name.as_str(), "ve449");
    assert_eq!(list[0].spec["quarantined"], true);
    let request = PlanRequest { only: many, allow_prune: Some(3), check_index: Some("x".to_owned()) };
    let plan = client.plan(&request).unwrap();
    assert_eq!((plan.text, plan.exit_code), (format!("{request:?}"), 3));
    let select = Selector { all: true, ..Selector::default() };
    let outcomes = client.power(&PowerRequest { select, action: PowerAction::Stop, force: true }).unwrap();
    assert_eq!(outcomes["web"], None);
    assert_eq!(outcomes["db"], Some(refused("VZ0303")));
    assert_eq!(client.undelete("web"), Ok(()));
    assert_eq!(client.why("böse & co", "spec.mounts[/a b]").unwrap().value, "böse & co");
    assert_eq!(client.info(), Ok(Info::default()));
    assert_eq!(client.wait(&Selector::default(), "Ready", "True", 50), Ok(false));
    assert_eq!(client.wait(&Selector::default(), "Ready", "True", 500), Ok(true));
}

#[test]
fn errors_arrive_as_they_were_also_when_the_server_fails() {
    let (dir, serving, client) = served();
    assert_eq!(client.apply(&PlanRequest::default()), Err(refused("VZ0205")));
    assert_eq!(client.undelete("db"), Err(refused("VZ0307")));
    let anew = |keep_users| Reinstall { ve: "web".to_owned(), keep_users };
    assert_eq!(client.reinstall(&anew(true)), Ok(()));
    assert_eq!(client.reinstall(&anew(false)), Err(refused("VZ0203")));
    let (ve, name) = ("web".to_owned(), "web02".to_owned());
    let clone = CloneRequest { ve, name, ctid: None, state: Some(CloneState::Running), running: false };
    let cloned = client.clone_ve(&clone).unwrap();
    assert_eq!((cloned.name.as_str(), cloned.failed), ("web02", Some(refused("VZ0301"))));
    let mount = |at| MountRequest { ve: "web".to_owned(), at };
    assert_eq!(client.mount(&mount(Some("/vz/root/101".into()))), Ok(()));
    assert_eq!(client.mount(&mount(None)), Err(refused("VZ0312")));
    assert_eq!(client.snapshots("web").unwrap()[0].name, "of-web");
    let order = |action| SnapshotRequest {
        memory: false,
        ve: "web".to_owned(),
        snapshot: "a".to_owned(),
        action,
        note: SnapshotNote::default(),
        archive: None,
    };
    assert_eq!(client.snapshot(&order(SnapshotAction::Create)), Ok(()));
    assert_eq!(client.snapshot(&order(SnapshotAction::Revert)), Err(refused("VZ0310")));
    assert_eq!(client.drift(&Selector::default()).unwrap_err().code, "VZ0403");
    assert!(client.info().is_ok(), "a panic of one question is that question's");
    drop(serving);
    let ended = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        client.info().is_err()
    });
    assert!(ended, "{}", dir.path().display());
    assert_eq!(client.info().unwrap_err().code, "VZ0403");
}

#[test]
fn long_waits_do_not_keep_short_questions_waiting() {
    let (dir, _serving, client) = served();
    let waits: Vec<_> = (0..40)
        .map(|_| {
            let socket = dir.path().join("vzd.sock");
            std::thread::spawn(move || {
                Client::new(&socket).unwrap().events(&EventQuery { wait_ms: 1500, ..EventQuery::default() })
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    client.info().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    for wait in waits {
        assert!(wait.join().unwrap().is_ok());
    }
}
