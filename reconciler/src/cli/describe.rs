//! `vzd describe`: everything about one VE that a person asks first.

use serde_json::Value;

use crate::cli::Context;
use crate::cli::connect::look;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::net;
use crate::cli::output::{Paint, harmless};
use crate::cli::shown;
use crate::cli::table::{Cell, Table};
use crate::control::{EventQuery, LoggedEvent, Selector, VeNetwork};
use vzd_state::status::Document;

/// The latest events that are shown.
const EVENTS: usize = 10;

/// Options of `vzd describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// VEs, by name or ctid
    #[arg(required = true, value_name = "VE")]
    names: Vec<String>,
}

/// Shows the VEs one after the other.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let control = look(cx)?;
    let select = Selector { names: args.names.clone(), ..Selector::default() };
    for (at, ve) in control.list(&select, false)?.iter().enumerate() {
        let query = EventQuery { ve: Some(ve.metadata.name.to_string()), ..EventQuery::default() };
        let events = control.events(&query)?;
        let latest = &events[events.len().saturating_sub(EVENTS)..];
        let named = Selector { names: vec![ve.metadata.name.to_string()], ..Selector::default() };
        // One that does not run has none.
        let network = control.networks(&named).ok().and_then(|mut all| all.pop());
        if cx.out.is_data() {
            let mut described =
                serde_json::to_value(ve).map_err(|error| Failure::new("cannot write JSON").because(error))?;
            described["events"] = serde_json::to_value(latest)
                .map_err(|error| Failure::new("cannot write JSON").because(error))?;
            if let Some(of) = &network {
                described["network"] = serde_json::to_value(&of.network)
                    .map_err(|error| Failure::new("cannot write JSON").because(error))?;
            }
            if args.names.len() == 1 {
                cx.out.data(&described)?
            } else {
                cx.out.item(&described)?
            }
            continue;
        }
        if at > 0 {
            cx.out.line("")?;
        }
        let text = described(ve, network.as_ref(), latest, cx.out.colour);
        cx.out.text(&text)?;
    }
    Ok(OK)
}

fn described(ve: &Document, network: Option<&VeNetwork>, events: &[LoggedEvent], colour: bool) -> String {
    let (state, paint) = shown::state(ve);
    let status = &ve.status;
    let mut about = Table::bare();
    let mut say = |name: &str, text: &str, paint: Option<Paint>| {
        if !text.is_empty() {
            about.row([Cell::painted(format!("{name}:"), Some(Paint::Strong)), Cell::painted(text, paint)]);
        }
    };
    let pairs = |map: &std::collections::BTreeMap<String, String>| -> String {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    say("Name", ve.metadata.name.as_str(), None);
    say("Ctid", &status.ctid.map(|ctid| ctid.get().to_string()).unwrap_or_default(), None);
    say("State", state, paint);
    say(
        "Started",
        &status.started_at.map(|at| format!("{at} ({} ago)", shown::age(at))).unwrap_or_default(),
        None,
    );
    say("Init", &status.init_pid.map(|pid| format!("pid {pid} of the host")).unwrap_or_default(), None);
    say("Cgroup", status.cgroup.as_deref().unwrap_or_default(), None);
    say("Source", &status.source.as_ref().map(ToString::to_string).unwrap_or_default(), None);
    say("Generation", &ve.metadata.generation.to_string(), None);
    say("Labels", &pairs(&ve.metadata.labels), None);
    say("Annotations", &pairs(&ve.metadata.annotations), None);
    say("Uid", ve.metadata.uid.as_ref().map_or("", |uid| uid.as_str()), None);
    let mut text = about.render("", colour);
    section(&mut text, "Spec", &spec(&ve.spec), colour);
    section(&mut text, "Until it stops", &transient(ve, colour), colour);
    section(&mut text, "Conditions", &conditions(ve, colour), colour);
    section(&mut text, "Use", &resources(ve, colour), colour);
    let network = network.filter(|ve| !ve.network.links.is_empty());
    let network = network.map(|ve| net::network(ve, colour)).unwrap_or_default();
    section(&mut text, "Network", &network, colour);
    let events: String = events.iter().map(|event| format!("  {}\n", shown::event(event, colour))).collect();
    section(&mut text, "Latest events", &events, colour);
    text
}

fn section(text: &mut String, title: &str, content: &str, colour: bool) {
    if !content.is_empty() {
        text.push_str(&format!("\n{}\n{content}", Paint::Strong.text(colour, title)));
    }
}

fn spec(spec: &Value) -> String {
    let yaml = serde_saphyr::to_string(spec).unwrap_or_else(|_| spec.to_string());
    yaml.lines().filter(|line| *line != "---").map(|line| format!("  {}\n", harmless(line))).collect()
}

/// What stands above the manifest, and what that says.
fn transient(ve: &Document, colour: bool) -> String {
    let mut table = Table::bare();
    for (field, is) in &ve.status.transient {
        let value = |value: &Value| if value.is_null() { "not set".to_owned() } else { resource(value) };
        let manifest = format!("(manifest: {})", value(&is.over));
        table.row([Cell::from(field), Cell::from(value(&is.value)), Cell::from(manifest)]);
    }
    table.render("  ", colour)
}

fn conditions(ve: &Document, colour: bool) -> String {
    let mut table = Table::bare();
    for condition in &ve.status.conditions {
        let (status, paint) = shown::status(condition);
        table.row([
            Cell::from(format!("{:?}", condition.r#type)),
            Cell::painted(status, paint),
            condition.reason.as_str().into(),
            shown::age(condition.last_transition_time).into(),
            condition.message.as_str().into(),
        ]);
    }
    table.render("  ", colour)
}

/// Use against limits: `name  use of limit` where there are both, `name  value` otherwise.
fn resources(ve: &Document, colour: bool) -> String {
    let mut table = Table::bare();
    for (name, value) in &ve.status.resources {
        table.row([Cell::from(name), Cell::from(resource(value))]);
    }
    table.render("  ", colour)
}

fn resource(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let shown = |(name, value): (&String, &Value)| format!("{name} {}", resource(value));
            fields.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
