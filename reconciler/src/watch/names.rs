//! Which names in the manifest directory are manifests, and why the others are not.

/// Endings of what editors, package managers and patch leave behind.
const LEFTOVERS: [(&str, &str); 8] = [
    ("~", "an editor's backup"),
    (".swp", "an editor's swap file"),
    (".bak", "a backup"),
    (".orig", "a backup"),
    (".rej", "rejected by patch"),
    (".tmp", "a temporary file"),
    (".rpmnew", "left by a package manager"),
    (".rpmsave", "left by a package manager"),
];

/// Endings of manifests.
const MANIFESTS: [&str; 3] = [".yaml", ".yml", ".json"];

/// Why a file or directory of that name is passed over, if it is.
pub(super) fn leftover(name: &str) -> Option<&'static str> {
    if name.starts_with('.') {
        return Some("hidden");
    }
    if name.starts_with('#') && name.ends_with('#') {
        return Some("an editor's unsaved copy");
    }
    if name.contains(".dpkg-") {
        return Some("left by a package manager");
    }
    LEFTOVERS.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, why)| why)
}

/// Whether a file of that name, which is no leftover, is a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    MANIFESTS.into_iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_editors_and_package_managers_are_no_manifests() {
        for name in [
            ".web.yaml",
            ".web.yaml.swp",
            "..data",
            ".git",
            "web.yaml~",
            "web.yaml.swp",
            "web.yaml.bak",
            "web.yaml.orig",
            "web.yaml.rej",
            "web.yaml.tmp",
            "#web.yaml#",
            "web.yaml.rpmnew",
            "web.yaml.rpmsave",
            "web.yaml.dpkg-dist",
            "web.yaml.dpkg-old",
        ] {
            assert!(leftover(name).is_some(), "{name}");
        }
        for name in ["web.yaml", "web.yml", "web.json", "a#b.yaml", "bak.yaml"] {
            assert!(leftover(name).is_none() && is_manifest(name), "{name}");
        }
        for name in ["4913", "README.md", "yaml", "web.yaml.gz"] {
            assert!(leftover(name).is_none() && !is_manifest(name), "{name}");
        }
    }
}
