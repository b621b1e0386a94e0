# shellcheck shell=bash
# What every script here shares: messages, bounded waits, and where things are.
#
# Sourced, not run. Messages go to standard error, so that a script's output can be piped.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The directory cargo builds into; what it prints is relative to the repository when it is inside.
target_directory() {
    local directory=${CARGO_TARGET_DIR:-target}
    case $directory in
    /*) printf '%s\n' "$directory" ;;
    *) printf '%s/%s\n' "$REPOSITORY" "$directory" ;;
    esac
}

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' YELLOW='' PLAIN=''
fi

# A step that a person waits for.
step() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
say() { printf '    %s\n' "$*" >&2; }
warn() { printf '%swarning: %s%s\n' "$YELLOW" "$*" "$PLAIN" >&2; }
die() {
    printf '%serror: %s%s\n' "$RED" "$*" "$PLAIN" >&2
    exit 1
}

require_root() {
    [[ $EUID -eq 0 ]] || die "$1 needs root: try sudo -E $0"
}

# wait_for SECONDS WHAT COMMAND...: runs COMMAND ten times a second until it succeeds. After
# SECONDS it says that WHAT did not happen, and returns 1.
wait_for() {
    local seconds=$1 what=$2
    shift 2
    local deadline=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > deadline)); then
            warn "after $seconds s still waiting for $what"
            return 1
        fi
        sleep 0.1
    done
}

# process_gone PID: for wait_for. A zombie counts as gone: it holds nothing but its parent's
# attention.
process_gone() {
    local state
    state=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) || return 0
    [[ -z $state || $state == Z ]]
}

# stop_process PID SECONDS: TERM, then KILL when it is still there after SECONDS.
stop_process() {
    local pid=$1 seconds=$2
    kill -TERM "$pid" 2>/dev/null || return 0
    wait_for "$seconds" "process $pid to end" process_gone "$pid" && return 0
    kill -KILL "$pid" 2>/dev/null || true
    wait_for 5 "process $pid to be gone" process_gone "$pid"
}

# Puts cargo on the PATH where rustup keeps it, if it is not there yet.
require_cargo() {
    if ! command -v cargo >/dev/null && [[ -f ${CARGO_HOME:-$HOME/.cargo}/env ]]; then
        # shellcheck source=/dev/null
        source "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    command -v cargo >/dev/null || die "cargo is not on the PATH: install Rust from https://rustup.rs"
}
