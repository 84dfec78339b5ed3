# Has a system's own package manager do what vzd was told to have done. Runs inside a VE, by the VE's /bin/sh and with
# its rights; POSIX shell, busybox's too.
#
#   query NAME...                       prints `installed NAME` for each that is, and `upgraded SECONDS` since the epoch
#   apply UPGRADE NAME... -- NAME...    installs the first names, removes the others; UPGRADE: none, security, all
#   update UPGRADE                      only that, and tells about it on standard output
#   renew NAME...                       brings these up to date
#   list                                prints what is installed, `NAME VERSION` a line
#   show NAME...                        prints what is known of these
#   has NAME                            ends with 1 if it is not installed
#   outdated                            ends with 1 if there is anything newer
#   release                             brings it to its distribution's next release; ends with 74 if none is known
#   file NAME                           installs a package's file of this name, which is on standard input
#
# It ends with 73 where there is no package manager that it knows.

LOG=/var/log/vzd-packages.log
STAMP=/var/lib/vzd-upgraded
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a APT_LISTCHANGES_FRONTEND=none

has() { command -v "$1" >/dev/null 2>&1; }

if has apt-get && has dpkg-query; then family=apt
elif has dnf; then family=dnf
elif has zypper; then family=zypper
elif has apk; then family=apk
else
  echo "it has no package manager that vzd knows: apt, dnf, zypper, apk"
  exit 73
fi

apt() {
  apt-get -y -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=2 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}

installed() {
  [ $# -gt 0 ] || return 0
  case $family in
    apt) dpkg-query -W -f '${db:Status-Status} ${Package}\n' -- "$@" 2>/dev/null | grep '^installed ' | sort -u ;;
    dnf | zypper) /usr/bin/rpm -q --qf 'installed %{NAME}\n' -- "$@" 2>/dev/null | grep '^installed ' | sort -u ;;
    apk) apk info -e "$@" 2>/dev/null | sed 's/^/installed /' ;;
  esac
  return 0
}

refresh() {
  case $family in
    # What was cut short is gone through with first.
    apt) /usr/bin/dpkg --configure -a </dev/null && apt update ;;
    dnf) : ;;
    zypper) zypper --non-interactive refresh ;;
    apk) apk update ;;
  esac
}

add() {
  case $family in
    apt) apt install "$@" ;;
    dnf) dnf -y install "$@" ;;
    zypper) zypper --non-interactive install "$@" ;;
    apk) apk add "$@" ;;
  esac
}

drop() {
  case $family in
    apt) apt remove "$@" ;;
    dnf) dnf -y remove "$@" ;;
    zypper) zypper --non-interactive remove "$@" ;;
    apk) apk del "$@" ;;
  esac
}

list() {
  case $family in
    apt) dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p' ;;
    dnf | zypper) /usr/bin/rpm -qa --qf '%{NAME} %{VERSION}-%{RELEASE}\n' | sort ;;
    apk) apk info -v | sort | sed 's/-\([^-]*-r[0-9]*\)$/ \1/' ;;
  esac
}

show() {
  case $family in
    apt) dpkg-query -s -- "$@" ;;
    dnf | zypper) /usr/bin/rpm -qi -- "$@" ;;
    apk) apk info "$@" ;;
  esac
}

renew() {
  case $family in
    apt) apt install --only-upgrade "$@" ;;
    dnf) dnf -y upgrade "$@" ;;
    zypper) zypper --non-interactive update "$@" ;;
    apk) apk add -u "$@" ;;
  esac
}

newer() {
  case $family in
    apt) apt-get -s --with-new-pkgs upgrade | grep '^Inst ' ;;
    # The command's own 100 says that there are some.
    dnf) dnf -q check-update ;;
    zypper) zypper --non-interactive --quiet list-updates | grep '^v ' ;;
    apk) apk version -q -l '<' ;;
  esac
}

add_file() {
  case $family in
    apt) apt install "$1" ;;
    dnf) dnf -y install "$1" ;;
    zypper) zypper --non-interactive --no-gpg-checks install "$1" ;;
    apk) apk add --allow-untrusted "$1" ;;
  esac
}

fixed_by_security() {
  apt-get -s upgrade | sed -n '/^Inst .*[Ss]ecurity/s/^Inst \([^ ]*\).*/\1/p'
}

upgrade() {
  case $family-$1 in
    *-none) return 0 ;;
    apt-security)
      names=$(fixed_by_security)
      # shellcheck disable=SC2086
      [ -z "$names" ] || apt install --only-upgrade $names
      ;;
    apt-all) apt --with-new-pkgs upgrade ;;
    dnf-security) dnf -y upgrade --security ;;
    dnf-all) dnf -y upgrade ;;
    zypper-security) zypper --non-interactive patch --category security ;;
    zypper-all) zypper --non-interactive update ;;
    # Alpine marks no fixes: a release gets nothing else.
    apk-*) apk upgrade ;;
    *) return 2 ;;
  esac || return
  date +%s >$STAMP
}

# The distribution's release that comes after this one, in the words of its sources; nothing if that is not known.
next() {
  case $family-$ID-$VERSION_CODENAME in
    apt-debian-bullseye) echo bookworm ;;
    apt-debian-bookworm) echo trixie ;;
    apk-alpine-*) echo "$VERSION_ID" | sed -n 's/^3\.\([0-9]*\).*/\1/p' | awk '{ print "v3." $1 + 1 }' ;;
    dnf-fedora-*) expr "$VERSION_ID" + 1 ;;
  esac
}

# Which mirrors it is asked of is changed first, and put back if they do not have it: nothing else has happened then.
release() {
  ID= VERSION_ID= VERSION_CODENAME= PRETTY_NAME=
  # shellcheck disable=SC1091
  if [ -r /etc/os-release ]; then . /etc/os-release; fi
  to=$(next)
  if [ -z "$to" ]; then
    echo "no release is known that comes after ${PRETTY_NAME:-what it is}"
    return 74
  fi
  case $family in
    dnf)
      dnf -y --releasever="$to" --allowerasing distro-sync
      return
      ;;
    apt) from=$VERSION_CODENAME files=$(ls /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null) ;;
    apk) from=$(echo "v$VERSION_ID" | cut -d . -f 1,2) files=/etc/apk/repositories ;;
  esac
  for file in $files; do
    cp -p "$file" "$file.vzd-before" && sed "s/$from/$to/g" "$file.vzd-before" >"$file" || return 2
  done
  if ! refresh; then
    for file in $files; do mv "$file.vzd-before" "$file"; done
    return 2
  fi
  for file in $files; do rm "$file.vzd-before"; done
  case $family in
    apt) apt upgrade --without-new-pkgs && apt full-upgrade ;;
    apk) apk upgrade --available ;;
  esac
}

# Names hold nothing that a shell splits or reads.
change() {
  if [ -n "$remove" ]; then drop $remove || return; fi
  if [ -n "$install" ] || [ "$mode" != none ]; then refresh || return; fi
  if [ -n "$install" ]; then add $install || return; fi
}

fail() {
  echo "$1"
  # The end of what the package manager said.
  tail -n 3 $LOG 2>/dev/null
  exit 1
}

case ${1-} in
  query)
    shift
    installed "$@"
    [ ! -f $STAMP ] || echo "upgraded $(head -n 1 $STAMP)"
    ;;
  update)
    refresh && upgrade "$2"
    ;;
  renew)
    shift
    refresh && renew "$@"
    ;;
  list) list ;;
  release) release ;;
  show)
    shift
    show "$@"
    ;;
  has) [ -n "$(installed "$2")" ] ;;
  outdated)
    refresh >/dev/null || exit 2
    [ -z "$(newer)" ]
    ;;
  file)
    dir=$(mktemp -d /tmp/vzpkg.XXXXXX) && cat >"$dir/$2" && chmod 755 "$dir" || exit 2
    add_file "$dir/$2"
    status=$?
    rm -rf "$dir"
    exit $status
    ;;
  apply)
    mode=$2
    shift 2
    install= remove= which=install
    for name; do
      case $which-$name in
        install---) which=remove ;;
        install-*) install="$install $name" ;;
        *) remove="$remove $name" ;;
      esac
    done
    mkdir -p /var/log /var/lib
    # One earlier log is kept.
    [ ! -f $LOG ] || [ "$(wc -c <$LOG)" -lt 1000000 ] || mv $LOG $LOG.1
    echo "--- $(date) install:$install remove:$remove upgrade: $mode" >>$LOG
    change >>$LOG 2>&1 || fail "$family failed"
    upgrade "$mode" >>$LOG 2>&1 || fail "$family failed to upgrade"
    is=" $(installed $install $remove | sed 's/^installed //' | tr '\n' ' ')"
    for name in $install; do
      case $is in *" $name "*) ;; *) fail "$family knows no installed package $name: name what it is called itself" ;; esac
    done
    for name in $remove; do
      case $is in *" $name "*) fail "$family left $name installed" ;; esac
    done
    ;;
  *) exit 2 ;;
esac
