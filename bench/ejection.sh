#!/usr/bin/env bash
# How long a dead backend gets new flows, in a fleet of full size: 100 of 750 backends die, half of
# them refusing and half black-holed, and come back. Then what must eject nobody: a checker that
# is stopped, and readiness probes that all answer 503.
#
#   bench/ejection.sh [--json FILE] [--backends N] [--nodes N] [--checkers N]
#
#   --json FILE    also write the result as JSON
#   --backends N   250 to 1200 (750)
#   --nodes N      (12)
#   --checkers N   3 or more (6)
#
# Needs no root, and touches no packet filter. Takes about three minutes. Exit code 1 when the 99th
# percentile of ejections or recoveries is above 5 s, or when anybody was ejected wrongly.
# What is measured: docs/benchmarks.md.
set -euo pipefail
script=${BASH_SOURCE[0]}
# shellcheck source=bench/fleet.sh
source "$(dirname "$script")/fleet.sh"
read_arguments "$@"
run_fleet ejection 290 "${arguments[@]}"
