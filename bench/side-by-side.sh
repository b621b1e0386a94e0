#!/usr/bin/env bash
# Weir and DPDK's testpmd on the same packet source, interleaved, in one go.
#
#   bench/side-by-side.sh [--json FILE] [--rounds N] [--seconds S] [--quick]
#
#   --json FILE    also write the result as JSON
#   --rounds N     measure each case N times (7); figures are medians
#   --seconds S    for S seconds each time (3)
#   --quick        two rounds of one second: to see that it works
#
# Needs root, two cores (0: control, 1: forwarding), package dpdk-dev (dpdk-testpmd), and about
# 3.2 GiB of hugepages, which it reserves and returns. What the columns mean: docs/benchmarks.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
die() {
    printf 'side-by-side: %s\n' "$*" >&2
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
    --json | --rounds | --seconds)
        (($# > 1)) || { usage >&2 && exit 2; }
        arguments+=("$1" "$2")
        shift 2
        ;;
    --quick)
        arguments+=(--rounds 2 --seconds 1)
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
command -v dpdk-testpmd >/dev/null || die "dpdk-testpmd is missing: apt-get install dpdk-dev"
command -v cargo >/dev/null || die "cargo is missing: see README.md"

target=${CARGO_TARGET_DIR:-$root/target}
printf 'building ...\n' >&2
cargo build --manifest-path "$root/Cargo.toml" --release --quiet -p bench --bin weir-bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$target/release/weir-bench" memory)"
"$target/release/weir-bench" side-by-side --work "$target/side-by-side" "${arguments[@]}"
