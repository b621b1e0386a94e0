# shellcheck shell=bash
# Builds and runs weir-fleet, and leaves nothing behind. Sourced by control-scale.sh and
# ejection.sh, whose head comments are their usage; `script` is the one that runs.

# shellcheck source=scripts/common.sh
source "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/scripts/common.sh"

work='' driver=''

# shellcheck disable=SC2154  # set by who sources this
usage() { sed -n '2,/^set /{ /^set /!s/^# \{0,1\}//p }' "$script"; }

# What a driver that was killed could not end. Only processes that it started are in the file.
end_leftovers() {
    local id
    [[ -f $work/pids ]] || return 0
    while read -r id; do
        # The id may be another's by now.
        if { tr '\0' ' ' <"/proc/$id/cmdline"; } 2>/dev/null | grep -qF "$work"; then
            kill -CONT "$id" 2>/dev/null || true
            stop_process "$id" 3 || true
        fi
    done <"$work/pids"
}

finish() {
    local code=$?
    trap - EXIT INT TERM
    [[ -z $driver ]] || stop_process "$driver" 20 || true
    [[ -z $work ]] || { end_leftovers && rm -rf "$work"; }
    exit "$code"
}

# isolated COMMAND...: in a network namespace of its own, where the network for benchmarks
# (RFC 2544) is this machine. Without root in a user namespace, too.
isolated() {
    local as=()
    ((EUID == 0)) || as=(--user --map-root-user)
    # shellcheck disable=SC2016  # for the inner shell
    exec unshare --net "${as[@]}" bash -c '
        ip link set lo up && ip route add local 198.18.0.0/15 dev lo && exec "$@"' isolated "$@"
}

# run_fleet WHAT SECONDS ARGUMENT...: weir-fleet WHAT, for at most SECONDS.
run_fleet() {
    local what=$1 seconds=$2 target
    shift 2
    require_cargo
    target=$(target_directory)
    step "Building a release of weir and of the bench (the first time takes some minutes)"
    (cd "$REPOSITORY" && cargo build --release --quiet -p weir --bin weir -p bench --bin weir-fleet)
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d "$target/fleet.XXXXXX")
    # In the background, as bash hears signals while it waits, and not while a program runs.
    isolated timeout --foreground --kill-after=20 "$seconds" "$target/release/weir-fleet" "$what" \
        --weir "$target/release/weir" --work "$work" "$@" &
    driver=$!
    local code=0
    wait "$driver" || code=$?
    driver=''
    ((code != 124)) || die "not done within $seconds s"
    exit "$code"
}

# read_arguments ARGUMENT...: into the array `arguments`.
read_arguments() {
    arguments=()
    while (($#)); do
        case $1 in
        --json | --backends | --nodes | --checkers)
            (($# > 1)) || { usage >&2 && exit 2; }
            arguments+=("$1" "$2")
            shift 2
            ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
        esac
    done
}
