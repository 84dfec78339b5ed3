//! A script that completes the command lines of OpenVZ's tools: from the same tables that the tools run on.

use super::params::PARAMS;
use super::vzlist::columns;
use super::{conformance, names, options};

/// Words that nothing in a shell takes for anything else: names of commands, options and fields.
fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// The script, for bash; zsh reads it after bashcompinit.
pub fn script() -> String {
    // Without those that are no commands here.
    let known = conformance::commands().filter(|(_, is)| !is.starts_with("no: 20"));
    let commands = words(known.flat_map(|(names, _)| names.split(", ")));
    let options: Vec<String> = ["save", "force", "setmode", "applyconfig", "reset_ub"]
        .into_iter()
        .chain(PARAMS.iter().map(|param| param.option).filter(|option| !option.is_empty()))
        .map(|option| format!("--{option}"))
        .collect();
    let options = words(options.iter().map(String::as_str));
    let fields = words(columns::all().iter().map(|column| column.name.as_str()));
    let others = words(names().filter(|name| !matches!(*name, "vzctl" | "vzlist" | "vzpkg")));
    let cases: String = options::TOLD
        .iter()
        .map(|told| {
            let (tool, options, commands) =
                (told.tool, words(told.names()), words(told.commands.iter().copied()));
            format!("    {tool}) options=\"{options}\" commands=\"{commands}\" ;;\n")
        })
        .collect();
    format!(
        r#"# Made by `vzd compat completions`.
_vz_reply() {{ COMPREPLY=( $(compgen -W "$1" -- "${{COMP_WORDS[COMP_CWORD]}}") ); }}
_vz_containers() {{ _vz_reply "$(vzlist -a -H -o ctid 2>/dev/null)"; }}
_vz_options() {{
  local options= commands=
  case $1 in
{cases}  esac
  case ${{COMP_WORDS[COMP_CWORD]}} in
    -*) _vz_reply "$options" ;;
    *) [ -n "$commands" ] && [ $COMP_CWORD = 1 ] && _vz_reply "$commands" ;;
  esac
}}
_vz_tool() {{
  case $1 in
    vzcfgvalidate | vzcfgscale) _vz_options $1 || COMPREPLY=( $(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}") ) ;;
    vzpid | vzsplit | vzcpucheck | vzmemcheck) _vz_options $1 ;;
    vzmigrate) _vz_options $1 || {{ [ $COMP_CWORD = 1 ] && COMPREPLY=( $(compgen -A hostname -- "${{COMP_WORDS[1]}}") ); }} || _vz_containers ;;
    *) _vz_options $1 || _vz_containers ;;
  esac
}}
_vzctl() {{
  case $COMP_CWORD in
    1) _vz_reply "{commands}" ;;
    2) _vz_containers ;;
    *) case ${{COMP_WORDS[1]}} in
         set | create) _vz_reply "{options}" ;;
         *) COMPREPLY=() ;;
       esac ;;
  esac
}}
_vzlist() {{
  case ${{COMP_WORDS[COMP_CWORD-1]}} in
    -o | -s | --output | --sort) _vz_reply "{fields}" ;;
    *) _vz_options vzlist || _vz_containers ;;
  esac
}}
_vzpkg() {{
  _vz_options vzpkg && return
  case ${{COMP_WORDS[1]}} in
    create | update | remove) _vz_reply "cache $(vzlist -a -H -o ctid 2>/dev/null) $(vzpkg list --available 2>/dev/null)" ;;
    info | status) _vz_reply "$(vzlist -a -H -o ctid 2>/dev/null) $(vzpkg list --available 2>/dev/null)" ;;
    *) _vz_containers ;;
  esac
}}
complete -F _vzctl vzctl
complete -F _vzlist vzlist
complete -F _vzpkg vzpkg
complete -F _vz_tool {others}
"#
    )
}
