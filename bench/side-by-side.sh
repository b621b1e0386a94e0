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

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=()
while (($# > 0)); do
    case $1 in
    --json | --rounds | --seconds)
        (($# > 1)) || bad_usage
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
        bad_usage
        ;;
    esac
done

needs_root
needs_cores 2
needs_command dpdk-testpmd dpdk-dev
build_bench

trap give_back EXIT
trap 'exit 130' INT TERM
get_hugepages "$("$bench" memory)"
"$bench" side-by-side --work "$target/side-by-side" "${arguments[@]}"
