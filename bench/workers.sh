#!/usr/bin/env bash
# Do workers scale? One worker and several, each with a core, a queue and a flow table of its own, and
# testpmd with as many forwarding threads on the same source, interleaved.
#
#   bench/workers.sh [--workers N] [--json FILE] [--rounds N] [--seconds S] [--quick]
#
#   --workers N    several are N (2)
#   --json FILE    also write the result as JSON
#   --rounds N     measure each N times (7); figures are medians
#   --seconds S    for S seconds each time (2)
#   --quick        two rounds of half a second: to see that it works
#
# Needs root, as many cores as workers, package dpdk-dev (dpdk-testpmd), and about 900 MiB of
# hugepages a worker, which it reserves and returns. What the columns mean: docs/benchmarks.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf 'workers: %s\n' "$*" >&2
    exit 1
}
# shellcheck source=bench/hugepages.sh
source "$root/bench/hugepages.sh"

usage() {
    sed -n '2,/^set /{ /^set /!s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}"
}

workers=2
arguments=()
while (($# > 0)); do
    case $1 in
    --json | --rounds | --seconds)
        (($# > 1)) || { usage >&2 && exit 2; }
        arguments+=("$1" "$2")
        shift 2
        ;;
    --workers)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || { usage >&2 && exit 2; }
        workers=$2
        shift 2
        ;;
    --quick)
        arguments+=(--rounds 2 --seconds 0.5)
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
(($(nproc) >= workers)) || die "needs $workers cores"
command -v dpdk-testpmd >/dev/null || die "dpdk-testpmd is missing: apt-get install dpdk-dev"
command -v cargo >/dev/null || die "cargo is missing: see README.md"

target=${CARGO_TARGET_DIR:-$root/target}
printf 'building ...\n' >&2
cargo build --manifest-path "$root/Cargo.toml" --release --quiet -p bench --bin weir-bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$target/release/weir-bench" memory --workers "$workers")"
"$target/release/weir-bench" workers --workers "$workers" --work "$target/side-by-side" \
    "${arguments[@]}"
