#!/usr/bin/env bash
# How long a change takes until every node of a fleet of full size has it in force: a controller
# with its registry on disk, 6 checkers that probe 750 backends, 12 nodes without ports.
#
#   bench/control-scale.sh [--json FILE] [--backends N] [--nodes N] [--checkers N]
#
#   --json FILE    also write the result as JSON
#   --backends N   250 to 1200 (750)
#   --nodes N      (12)
#   --checkers N   3 or more (6)
#
# Needs no root. Takes one to four minutes. Exit code 1 when the 99th percentile is above 3 s.
# What is measured: docs/benchmarks.md.
set -euo pipefail
script=${BASH_SOURCE[0]}
# shellcheck source=bench/fleet.sh
source "$(dirname "$script")/fleet.sh"
read_arguments "$@"
run_fleet scale 235 "${arguments[@]}"
