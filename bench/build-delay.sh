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

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=()
while (($# > 0)); do
    case $1 in
    --json | --seconds)
        (($# > 1)) || bad_usage
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
        bad_usage
        ;;
    esac
done

needs_root
needs_cores 2
build_bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$bench" memory --case swap)"
"$bench" build-delay --work "$target/side-by-side" "${arguments[@]}"
