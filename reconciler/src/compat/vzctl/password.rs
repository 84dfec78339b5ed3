//! `vzctl set --userpasswd`: a password of a user in a container, set by the container's own programs; in one that is down while
//! it runs for that alone. It is the container's business from then on: no manifest holds it, with `--save` or without.

use vzd_schema::v1::UserName;

use super::super::exit::{self, Refusal, Tool};
use super::super::inside;
use super::{Container, Vzctl, power};
use crate::control::Control;

/// As OpenVZ's own script: a user that is not there is made.
const SCRIPT: &str = r#"
grep -q "^$1:" /etc/passwd ||
  if command -v useradd > /dev/null; then useradd -m "$1"; else adduser -D "$1"; fi || exit
exec chpasswd $2
"#;

/// A user and what is to be its password.
#[derive(Debug, PartialEq, Eq)]
struct Password<'a> {
    user: UserName,
    text: &'a str,
}

impl<'a> Password<'a> {
    /// `user:password`. Whatever else the password holds, it is one line.
    fn read(text: &'a str) -> Result<Self, String> {
        let (user, text) = text.split_once(':').ok_or("write it as user:password")?;
        if text.is_empty() || text.contains(char::is_control) {
            return Err("a password is neither empty nor has control characters".to_owned());
        }
        Ok(Password { user: user.parse().map_err(|wrong| format!("{wrong}"))?, text })
    }
}

/// Sets the passwords, each `user:password`; with `crypted` they are hashes.
pub fn set(
    vzctl: &Vzctl,
    control: &dyn Control,
    container: &Container,
    wanted: &[&str],
    crypted: bool,
) -> Tool<()> {
    let bad = |why| Refusal::new(exit::BAD_VALUE, format!("Bad parameter for --userpasswd: {why}"));
    let wanted: Vec<Password<'_>> =
        wanted.iter().map(|one| Password::read(one)).collect::<Result<_, _>>().map_err(bad)?;
    if wanted.is_empty() {
        return Ok(());
    }
    for Password { user, .. } in &wanted {
        let users = container.document.spec["users"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_said =
            |one: &&serde_json::Value| one["name"] == user.as_str() && !one["passwordHash"].is_null();
        if users.iter().any(|one| is_said(&one)) {
            let message = format!("the manifest says the password of {user}: change its passwordHash there");
            return Err(Refusal::new(exit::PASSWORD, message));
        }
    }
    if container.runs() {
        return set_inside(vzctl, container, &wanted, crypted);
    }
    power::start_bare(control, container)?;
    let done = set_inside(vzctl, container, &wanted, crypted);
    power::stop_bare(control, container).and(done)
}

fn set_inside(vzctl: &Vzctl, container: &Container, wanted: &[Password<'_>], crypted: bool) -> Tool<()> {
    for Password { user, text } in wanted {
        let option = if crypted { "-e" } else { "" };
        let argv = ["/bin/sh", "-c", SCRIPT, "vzctl", user.as_str(), option].map(str::to_owned);
        let line = format!("{user}:{text}\n");
        let status = inside::run(&vzctl.settings, &container.selector(), argv, Some(&mut line.as_bytes()))?;
        if status != 0 {
            let message = format!("Setting the password of {user} failed: chpasswd ended with {status}");
            return Err(Refusal::new(exit::PASSWORD, message));
        }
        vzctl.say(&format!("Changing password for {user}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Password;

    #[test]
    fn a_password_is_one_line_of_one_user() {
        let read = Password::read("root:a:b c").unwrap();
        assert_eq!((read.user.as_str(), read.text), ("root", "a:b c"));
        for wrong in ["root", "root:", ":x", "-e:x", "root:x\nadmin:y", "a.*:x", "a b:x"] {
            assert!(Password::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
