//! Prints the JSON Schema that is checked in as `schema/ve.v1.schema.json`.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

fn main() {
    println!("{:#}", vzd_schema::json_schema());
}
