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

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workers=2
arguments=()
while (($# > 0)); do
    case $1 in
    --json | --rounds | --seconds)
        (($# > 1)) || bad_usage
        arguments+=("$1" "$2")
        shift 2
        ;;
    --workers)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || bad_usage
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
        bad_usage
        ;;
    esac
done

needs_root
needs_cores "$workers"
needs_command dpdk-testpmd dpdk-dev
build_bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$bench" memory --workers "$workers")"
"$bench" workers --workers "$workers" --work "$target/side-by-side" \
    "${arguments[@]}"
