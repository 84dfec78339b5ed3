//! OpenVZ's sample configurations by their names: `--config basic` is a profile, made the first time that it is asked for, of the
//! host's own `ve-basic.conf-sample` or else of the one that OpenVZ came with.

use std::path::PathBuf;

use vzd_schema::v1::{ManifestPolicy, Name};

use super::import::convert;
use super::manifests::{Manifests, Unfit};
use crate::cli::output::{harmless, note};
use crate::settings::Settings;

/// Those that OpenVZ came with.
const OWN: &str = include_str!("../../../examples/openvz-samples.yaml");

/// What the profile of a sample is called: names are small letters, digits and `-`.
pub fn profile_name(sample: &str) -> String {
    sample.to_lowercase().replace(['.', '_'], "-")
}

/// Makes the profile of that name in the manifests, if it is none yet and a sample is called so. Tells where it was made.
pub fn provide(settings: &Settings, manifests: &Manifests, name: &str) -> Result<Option<PathBuf>, Unfit> {
    let profile = profile_name(name);
    let may = profile.parse::<Name>().is_ok() && manifests.policy() == ManifestPolicy::Edit;
    if !may || manifests.has_profile(&profile) {
        return Ok(None);
    }
    let text = match of_host(settings, name) {
        Some(text) => text,
        None => match own(name) {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    manifests.add(&format!("profile-{profile}"), &text).map(Some)
}

/// Of OpenVZ's directory of configurations. What has no home is told.
fn of_host(settings: &Settings, name: &str) -> Option<String> {
    let path = settings.scripts.join(format!("ve-{name}.conf-sample"));
    let imported = convert::profile(name, &String::from_utf8_lossy(&std::fs::read(&path).ok()?));
    for (line, message) in &imported.residue {
        note(&harmless(&format!("{}:{line}: {message}", path.display())));
    }
    Some(imported.text)
}

fn own(name: &str) -> Option<String> {
    // The one that came by two names.
    if name == "vswap-1024m" {
        return own("vswap-1g").map(|text| text.replace("  name: vswap-1g\n", "  name: vswap-1024m\n"));
    }
    let line = format!("  name: {name}");
    let is_it = |text: &&str| text.contains("kind: Profile") && text.lines().any(|is| is == line);
    let text = OWN.split("\n---\n").find(is_it)?;
    // What is said of all of them, and the template that makes it an example.
    let kept = text.lines().filter(|line| !line.starts_with('#') && *line != "  template: tiny");
    Some(kept.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn openvzs_samples_are_there() {
        for name in
            ["vswap-256m", "vswap-512m", "vswap-1g", "vswap-1024m", "vswap-2g", "vswap-4g", "basic", "light"]
        {
            let text = own(name).unwrap_or_else(|| panic!("{name}"));
            let read = vzd_schema::parse("f", text.as_bytes());
            assert!(
                read.diagnostics.is_empty() && read.documents.len() == 1,
                "{text}\n{:?}",
                read.diagnostics
            );
            assert!(!text.contains("template") && text.contains("cpuunits"), "{text}");
            assert!(text.contains(&format!("  name: {name}\n")), "{text}");
        }
        assert_eq!(own("modern"), None);
    }
}
