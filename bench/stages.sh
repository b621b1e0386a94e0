#!/usr/bin/env bash
# Where the cycles of a packet go: each stage of the worker's round, timed in the running path.
#
#   bench/stages.sh [--case CASE]... [--json FILE] [--rounds N] [--seconds S] [--quick]
#
#   --case CASE    only this one; may be repeated (all: hit_4k, hit_1m, new, v6_hit_1m, gue_hit_1m)
#   --json FILE    also write the result as JSON
#   --rounds N     measure each case N times (3), each time in a process of its own
#   --seconds S    for S seconds each time (4)
#   --quick        one round of one second: to see that it works
#
# Needs root, two cores (0: control, 1: forwarding) and about 3.2 GiB of hugepages (0.4 GiB for
# hit_4k alone), which it reserves and returns. What the stages are: docs/benchmarks.md.
set -euo pipefail

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=()
cases=()
while (($# > 0)); do
    case $1 in
    --case)
        (($# > 1)) || bad_usage
        cases+=("$2")
        arguments+=("$1" "$2")
        shift 2
        ;;
    --json | --rounds | --seconds)
        (($# > 1)) || bad_usage
        arguments+=("$1" "$2")
        shift 2
        ;;
    --quick)
        arguments+=(--rounds 1 --seconds 1)
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        bad_usage
        ;;
    esac
done

needs_root
needs_cores 2
build_bench

# The most that any of the cases needs.
needed=0
((${#cases[@]})) || cases=(hit_4k hit_1m new v6_hit_1m gue_hit_1m)
for name in "${cases[@]}"; do
    mib=$("$bench" memory --case "$name")
    ((mib > 0)) || die "no case \"$name\""
    ((mib <= needed)) || needed=$mib
done

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$needed"
"$bench" stages --work "$target/side-by-side" "${arguments[@]}"
