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

# shellcheck source=bench/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=()
while (($# > 0)); do
    case $1 in
    --case | --json)
        (($# > 1)) || bad_usage
        arguments+=("$1" "$2")
        shift 2
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
needs_command valgrind valgrind
build_bench
"$bench" instructions --work "$target/instructions" "${arguments[@]}"
