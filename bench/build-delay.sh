#!/usr/bin/env bash
# Does building tables delay packets? One worker at full load on core 1; on core 0 its node builds
# and publishes one table of 65537 slots for 750 backends after another, in turns with half seconds
# of rest. Printed is the time from one poll of the port to the next, with builds and without.
#
#   bench/build-delay.sh [--json FILE] [--seconds S] [--quick]
#
#   --json FILE    also write the result as JSON
#   --seconds S    S seconds of each (10)
#   --quick        2 seconds of each: to see that it works
#
# Needs root, two cores, and 200 MiB of hugepages, which it reserves and returns. Nothing else
# should run: what takes the worker's core away is a gap, too, in both lines. docs/benchmarks.md
# says how to read it.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf 'build-delay: %s\n' "$*" >&2
    exit 1
}
# shellcheck source=bench/hugepages.sh
source "$root/bench/hugepages.sh"

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

arguments=()
while (($# > 0)); do
    case $1 in
    --json | --seconds)
        (($# > 1)) || { usage >&2 && exit 2; }
        arguments+=("$1" "$2")
        shift 2
        ;;
    --quick)
        arguments+=(--seconds 2)
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done

((EUID == 0)) || die "needs root (DPDK, hugepages)"
(($(nproc) >= 2)) || die "needs two cores"
command -v cargo >/dev/null || die "cargo is missing: see README.md"

target=${CARGO_TARGET_DIR:-$root/target}
printf 'building ...\n' >&2
cargo build --manifest-path "$root/Cargo.toml" --release --quiet -p bench --bin weir-bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$target/release/weir-bench" memory --case swap)"
"$target/release/weir-bench" build-delay --work "$target/side-by-side" "${arguments[@]}"
