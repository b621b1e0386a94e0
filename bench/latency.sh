#!/usr/bin/env bash
# How long packets are in a Weir node: one worker on core 1, and on core 0 a generator that stamps
# what it sends to it over rings in memory, and receives it again. First the capacity of the path,
# then 10, 50, 80 and 95 % of it, with workers that spin and workers that back off.
#
#   bench/latency.sh [--json FILE] [--rounds N] [--seconds S] [--flows N] [--realtime] [--quick]
#
#   --json FILE    also write the result as JSON
#   --rounds N     measure each point N times (9); figures are medians
#   --seconds S    for S seconds each time (0.2)
#   --flows N      packets of N flows (4096)
#   --realtime     with real-time priority, where other work is on the machine; that waits meanwhile
#   --quick        two rounds of a tenth of a second: to see that it works
#
# Needs root, two cores, and 200 MiB of hugepages (with a million flows 500), which it reserves and
# returns. Nothing else should run. Exit code 1 when at 80 % the 99th percentile that a spinning node
# adds is above 50 us, in five rounds or more. What the columns mean: docs/benchmarks.md.
set -euo pipefail

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=()
memory=()
while (($# > 0)); do
    case $1 in
    --json | --rounds | --seconds | --flows)
        (($# > 1)) || bad_usage
        arguments+=("$1" "$2")
        [[ $1 != --flows ]] || memory+=("$1" "$2")
        shift 2
        ;;
    --realtime)
        arguments+=("$1")
        shift
        ;;
    --quick)
        arguments+=(--rounds 2 --seconds 0.1)
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

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$bench" latency --memory "${memory[@]}")"
"$bench" latency "${arguments[@]}"
