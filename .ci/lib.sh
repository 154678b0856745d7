# shellcheck shell=bash
# What .ci/run and tests/vm/run share. Sourced, never run; sets nothing but functions and CACHE.

# Roots and images are large and slow to make, so they live outside the checkout and outlast it.
if [ "$(id -u)" = 0 ]; then
    CACHE=${OOM_WATCHDOG_CACHE:-/var/cache/oom-watchdog-ci}
else
    CACHE=${OOM_WATCHDOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oom-watchdog-ci}
fi

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# need PROGRAM=PACKAGE…: install the packages whose program is missing.
need() {
    local pair missing=()
    for pair; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    [ "$(id -u)" = 0 ] || die "first: sudo apt-get install ${missing[*]}"
    say "apt-get install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || true   # an old list often still serves; the install says if it does not
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
        || die "apt-get could not install: ${missing[*]}"
}

# Mirrors that stand still have Release files past their date; networks fail now and then.
APT_OPTIONS=(--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"'
    --aptopt='Acquire::Retries "3"')

# bootstrap SUITE PACKAGES TARGET [more mmdebstrap options]: a minimal Debian in TARGET, or what
# MIRROR has.
bootstrap() {
    local suite=$1 packages=$2 target=$3
    shift 3
    nice -n 10 mmdebstrap --quiet --variant=minbase --include="$packages" "${APT_OPTIONS[@]}" \
        "$@" "$suite" "$target" ${MIRROR:+"$MIRROR"}
}
