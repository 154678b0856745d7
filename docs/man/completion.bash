# bash completion for oom-watchdog

_oom_watchdog() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words="" files=""
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "@COMMANDS@ --help --version" -- "$current")
        return
    fi
    case $previous in
        @FILES@)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return ;;
        @FOLDERS@)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return ;;
        --unit | --explain)
            mapfile -t COMPREPLY < <(compgen -W "$(systemctl list-units --type=service --plain \
                --no-legend --no-pager 2>/dev/null | cut -d ' ' -f 1)" -- "$current")
            return ;;
        --kind)
            mapfile -t COMPREPLY < <(compgen -W "@KINDS@" -- "$current")
            return ;;
        @TAKES@)
            return ;;
    esac
    case ${COMP_WORDS[1]} in
@CASES@
    esac
    if [ -n "$files" ] && [[ $current != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    fi
}
complete -F _oom_watchdog oom-watchdog
