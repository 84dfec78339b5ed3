//! Tables of cases, by subject.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "common/mod.rs"]
mod common;
#[path = "tables/ledger.rs"]
mod ledger;
#[path = "tables/lower.rs"]
mod lower;
#[path = "tables/output.rs"]
mod output;
#[path = "tables/policy.rs"]
mod policy;
#[path = "tables/samples.rs"]
mod samples;
#[path = "tables/status.rs"]
mod status;
#[path = "tables/transient.rs"]
mod transient;
#[path = "tables/update_class.rs"]
mod update_class;
