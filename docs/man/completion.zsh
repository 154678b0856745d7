#compdef oom-watchdog

_oom_watchdog_units() {
    local -a units
    units=(${(f)"$(systemctl list-units --type=service --plain --no-legend --no-pager 2>/dev/null |
        cut -d ' ' -f 1)"})
    compadd -a units
}

_oom_watchdog_kinds() {
    compadd @KINDS@
}

_oom-watchdog() {
    local -a commands
    commands=(
@COMMANDS@
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        return
    fi
    local name=$words[2]
    shift words
    (( CURRENT-- ))
    case $name in
@CASES@
    esac
}

_oom-watchdog "$@"
