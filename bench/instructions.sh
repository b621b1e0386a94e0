#!/usr/bin/env bash
# Instructions a packet, by function: the path of a node under valgrind's callgrind.
#
#   bench/instructions.sh [--case CASE]... [--json FILE]
#
#   --case CASE    only this one; may be repeated (all: hit_4k, hit_64k, new_64k, v6_hit_64k,
#                  gue_hit_64k)
#   --json FILE    also write the result as JSON
#
# Needs root (DPDK) and the package valgrind; no hugepages, and no quiet machine: two runs of the
# same program count the same. What it means: docs/benchmarks.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
die() {
    printf 'instructions: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

arguments=()
while (($# > 0)); do
    case $1 in
    --case | --json)
        (($# > 1)) || { usage >&2 && exit 2; }
        arguments+=("$1" "$2")
        shift 2
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

((EUID == 0)) || die "needs root (DPDK)"
command -v valgrind >/dev/null || die "valgrind is missing: apt-get install valgrind"
command -v cargo >/dev/null || die "cargo is missing: see README.md"

target=${CARGO_TARGET_DIR:-$root/target}
printf 'building ...\n' >&2
cargo build --manifest-path "$root/Cargo.toml" --release --quiet -p bench --bin weir-bench
"$target/release/weir-bench" instructions --work "$target/instructions" "${arguments[@]}"
