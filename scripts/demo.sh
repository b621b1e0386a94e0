#!/usr/bin/env bash
# Shows Weir at work on this machine: a controller, three checkers and a node; a client sends HTTP
# requests to a VIP, the node, on a DPDK port, spreads them over nginx backends, and the backends
# answer the client directly. Then things go wrong: a backend dies, another is drained under long
# downloads, the controller is killed and started again.
#
#   sudo -E scripts/demo.sh              everything is removed at the end, on Ctrl-C too
#   sudo -E scripts/demo.sh --keep       leaves it running, and prints what to try
#   sudo -E scripts/demo.sh --stop       removes what --keep left
#   sudo -E scripts/demo.sh --cluster    three controllers over three members of etcd, and three
#                                        nodes behind a router; a leader and a node die, too
#
#   --requests N      (600)
#   --backends N      3 or more (3)
#   --port TYPE       net_tap, net_af_packet or net_af_xdp (net_tap)
#   --mode MODE       ipip or l2dsr (ipip)
#   --weir PROGRAM    (built from this source)
#
# Everything lives in network namespaces (scripts/lab.sh draws the picture); the machine's own
# network is not touched. Exit code 0 when nothing failed that should not.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
source "$here/common.sh"
# shellcheck source=scripts/demo/processes.sh
source "$here/demo/processes.sh"
# shellcheck source=scripts/demo/traffic.sh
source "$here/demo/traffic.sh"
# shellcheck source=scripts/demo/acts.sh
source "$here/demo/acts.sh"

LAB=demo
VIP=203.0.113.1
ADMIN=http://127.0.0.1:9180
DIRECTORY=${WEIR_LAB_STATE:-/run/weir-lab}/$LAB
MEMORY_MIB=256

keep=no stop=no requests=600 backends=3 port=net_tap mode=ipip weir='' nodes=1 controllers=1
reserved_hugepages=no hugepages=false trickle='' downloads=()

usage() {
    sed -n '2,/^set /{ s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
    exit 2
}

read_arguments() {
    while (($#)); do
        case $1 in
        --keep) keep=yes ;;
        --stop) stop=yes ;;
        --cluster) nodes=3 controllers=3 ;;
        --requests | --backends | --port | --mode | --weir)
            (($# >= 2)) || usage
            printf -v "${1#--}" '%s' "$2"
            shift
            ;;
        *) usage ;;
        esac
        shift
    done
    [[ $requests =~ ^[1-9][0-9]{0,5}$ ]] || die "--requests is a number from 1 to 999999"
    [[ $backends =~ ^([3-9]|[1-9][0-9]{1,2})$ ]] || die "--backends is 3 or more"
}

finish() {
    local code=$?
    trap - EXIT INT TERM
    stop_trickle
    if [[ $keep == yes && $code == 0 ]]; then
        exit 0
    fi
    step "Cleaning up"
    remove_lab
    exit "$code"
}

failed_acts=()
# act NAME: goes on after one that failed, so that all is seen.
act() { "act_$1" || { warn "this act failed: $1"; failed_acts+=("$1"); }; }

print_counters() {
    printf 'The node counted (from %s/metrics):\n' "$ADMIN"
    on node curl -s --max-time 5 "$ADMIN/metrics" |
        grep -E '^weir_((vip|backend|conntrack|drops)_.*_total|.*_active_flows|drops_total|worker_busy_ratio)' |
        grep -vE ' 0(\.0+)?$' | sed 's/^/  /' || true
    printf '\n'
}

print_where_to_look() {
    cat <<END
Where to look next:
  README.md                 what Weir is, what it supports, how a packet goes through it
  docs/configuration.md     every key of the files that ran here
  docs/ctl.md               the operator's command line
  scripts/demo.sh --keep    the same, left running for you
END
}

print_what_to_try() {
    cat <<END
The lab is still there. Its directory is $DIRECTORY (configurations, logs, b1/access.log ...). Try:
  eval "\$(scripts/lab.sh ctl $LAB)"; weir="scripts/lab.sh exec $LAB control $weir ctl"
  \$weir status; \$weir fleet; \$weir backend list; \$weir watch
  \$weir plan drain b3; \$weir drain b3 --wait
  scripts/lab.sh exec $LAB client curl -i http://$VIP/
  scripts/lab.sh exec $LAB client curl -o /dev/null 'http://$VIP/slow?rate=1m'    # a long download
  scripts/lab.sh exec $LAB client ping -c 3 $VIP                          # the node answers
  scripts/lab.sh exec $LAB b1 tcpdump -ni eth0                                    # packets as b1 gets them
  scripts/lab.sh exec $LAB node curl -s $ADMIN/metrics
  scripts/lab.sh exec $LAB node curl -s $ADMIN/admin/pools/web
When you are done:
  scripts/demo.sh --stop
END
}

main() {
    read_arguments "$@"
    require_root "making network namespaces and reserving hugepages"
    exec 9>/run/weir-demo.lock
    flock -n 9 || die "another demo is running"
    if [[ -e $DIRECTORY ]]; then
        step "Removing the lab that an earlier demo left"
        remove_lab
        reserved_hugepages=no
    fi
    [[ $stop == no ]] || exit 0

    "$here/install-deps.sh"
    require_cargo
    [[ -n $weir ]] || build_weir
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    reserve_hugepages
    start_lab
    start_control_plane
    start_nodes
    register_backends
    act requests
    act death
    act drain
    if ((controllers == 1)); then act restart; else act leader; fi
    ((nodes == 1)) || act node
    print_counters
    if ((${#failed_acts[@]})); then
        print_where_to_look
        die "failed: ${failed_acts[*]}"
    fi
    if [[ $keep == yes ]]; then print_what_to_try; else print_where_to_look; fi
}

main "$@"
