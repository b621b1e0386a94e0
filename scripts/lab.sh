#!/usr/bin/env bash
# The lab: a client, a Weir node and its backends, each in a network namespace of its own, on one
# Ethernet segment. Everything it makes has the lab's name in it, so labs stand side by side, and
# `down` removes exactly its own.
#
#   client 192.0.2.10 ──┐                      ┌── b1 192.0.2.11   nginx, VIP 203.0.113.1 on lo,
#   203.0.113.0/24      ├── switch (a bridge) ─┼── b2 192.0.2.12   weir-decap (tunnels);  
#   via 192.0.2.2       │                      └── ...             replies go straight to the client
#   node   192.0.2.2 ───┘
#     the DPDK port; the kernel of the node's namespace has no address and stays silent
#
# With --families 46 all hosts have IPv6, too: the client is 2001:db8:0:1::10, the node ::2, b1 ::11,
# and the VIP 2001:db8:cafe::1, beside the other.
#
# With --controllers there is a management network beside it (scripts/lab/control.sh), with --nodes
# a router that spreads the client's packets over several nodes, and with --narrow one behind which
# the way to the client is narrow.
#
# Every DPDK process of a lab runs inside the namespace "node":
#
#   scripts/lab.sh up try --port net_tap --backends 3
#   scripts/lab.sh config try > /tmp/try.toml
#   scripts/lab.sh exec try node target/release/weir run /tmp/try.toml &
#   scripts/lab.sh attach try                      # net_tap only; a no-op for the others
#   scripts/lab.sh exec try client curl http://203.0.113.1/
#   scripts/lab.sh down try
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
source "$here/common.sh"
# shellcheck source=scripts/lab/network.sh
source "$here/lab/network.sh"
# shellcheck source=scripts/lab/services.sh
source "$here/lab/services.sh"
# shellcheck source=scripts/lab/node.sh
source "$here/lab/node.sh"
# shellcheck source=scripts/lab/control.sh
source "$here/lab/control.sh"

usage() {
    cat >&2 <<'END'
usage: scripts/lab.sh COMMAND NAME ...

  up NAME [OPTIONS]           makes lab NAME
      --mode ipip|gre|gue|l2dsr how the node forwards                       (ipip)
      --families 4|46           IPv4 only, or IPv6 beside it                (4)
      --backend-family 4|6      which of their addresses the pool has       (4)
      --backends N              1 to 200                                    (3)
      --port TYPE               net_tap, net_af_packet, net_af_xdp, kernel  (net_tap)
                                kernel: an address for the lab's own test, no DPDK
      --queues N                queue pairs of the node's port, 1 to 8      (1)
      --mtu BYTES               MTU of the segment; the client's is 1500    (1600)
                                and its route to the VIPs leaves room for the outer header
      --client-mtu BYTES        MTU of the client and of replies to it      (1500)
      --vlan N                  the node's cable is tagged: 802.1Q          (untagged)
      --outer-vlan N            with an 802.1ad tag around it: QinQ         (none)
      --rate RATE               speed of a download of /slow                (256k)
      --file-mib N              size of that file                           (64)
      --nodes N                 1 to 3; several are behind a router         (1)
      --narrow BYTES            the client is behind a router, knows nothing of the tunnel, and
                                the way back to it takes no more than this (no router)
      --controllers N           0, 1 (embedded registry) or 3 (over etcd)   (0)
  attach NAME [SECONDS [N]]   net_tap: joins node N's weir0 to the segment, once started (30 1)
  config NAME [OPTIONS]       prints a configuration of weir for the lab
      --hugepages true|false    (true when enough of them are free)
      --memory MIB              (512)
      --flows N                 (200000)
      --node N                  (1)
  controller NAME N           prints a configuration of controller N
  checker NAME N              prints a configuration of checker N, 1 to 3
  ctl NAME                    prints the environment for weir ctl on host "control"
  route NAME N...             makes the router spread over these nodes only
  device NAME                 prints the DPDK device string of the node's port
  exec NAME HOST COMMAND...   runs COMMAND on client, node, node2, node3, router, control, c1,
                              c2, c3, switch, b1, b2 ...
  requests NAME               requests that each backend's nginx has answered
  decapsulated NAME           each decapsulator's counters, as JSON
  show NAME                   what the lab has, and commands to try
  list                        the labs there are
  down NAME                   ends its processes and removes it; no error when there is none
END
    exit 2
}

# The lab's directory holds its settings, and each backend's files.
LABS=${WEIR_LAB_STATE:-/run/weir-lab}

select_lab() {
    # Host names have no hyphen, so a namespace weir-LAB-HOST names one lab only.
    [[ ${1:-} =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
        die "a lab's name is 1 to 32 of a-z, 0-9 and -: '${1:-}'"
    LAB=$1
    STATE=$LABS/$LAB
}

SETTINGS=(MODE FAMILIES BACKEND_FAMILY PORT BACKENDS QUEUES MTU RATE FILE_MIB NODES CONTROLLERS VLAN
    OUTER_VLAN CLIENT_MTU NARROW)

# Makes the lab's settings variables again.
load_lab() {
    select_lab "$1"
    [[ -f $STATE/settings ]] || die "there is no lab '$LAB': make it with scripts/lab.sh up $LAB"
    # shellcheck source=/dev/null
    source "$STATE/settings"
}

number_between() {
    if [[ ! $3 =~ ^[0-9]{1,6}$ ]] || ((10#$3 < $1 || 10#$3 > $2)); then
        die "expected a number from $1 to $2: '$3'"
    fi
}

read_settings() {
    MODE=ipip PORT=net_tap BACKENDS=3 QUEUES=1 MTU=1600 RATE=256k FILE_MIB=64
    NODES=1 CONTROLLERS=0 FAMILIES=4 BACKEND_FAMILY=4 VLAN=0 OUTER_VLAN=0 NARROW=0
    CLIENT_MTU=1500
    while (($#)); do
        (($# >= 2)) || usage
        case $1 in
        --mode) MODE=$2 ;;
        --families) FAMILIES=$2 ;;
        --backend-family) BACKEND_FAMILY=$2 ;;
        --backends) BACKENDS=$2 ;;
        --port) PORT=$2 ;;
        --queues) QUEUES=$2 ;;
        --mtu) MTU=$2 ;;
        --client-mtu) CLIENT_MTU=$2 ;;
        --vlan) VLAN=$2 ;;
        --outer-vlan) OUTER_VLAN=$2 ;;
        --rate) RATE=$2 ;;
        --file-mib) FILE_MIB=$2 ;;
        --nodes) NODES=$2 ;;
        --controllers) CONTROLLERS=$2 ;;
        --narrow) NARROW=$2 ;;
        *) usage ;;
        esac
        shift 2
    done
    [[ $MODE =~ ^(ipip|gre|gue|l2dsr)$ ]] || die "no such mode: $MODE"
    [[ $FAMILIES == 4 || $FAMILIES == 46 ]] || die "--families is 4 or 46: '$FAMILIES'"
    [[ $BACKEND_FAMILY == [46] ]] || die "--backend-family is 4 or 6: '$BACKEND_FAMILY'"
    [[ $BACKEND_FAMILY == 4 || $FAMILIES == 46 ]] || die "--backend-family 6 needs --families 46"
    [[ $PORT =~ ^(net_tap|net_af_packet|net_af_xdp|kernel)$ ]] || die "no such port type: $PORT"
    number_between 1 200 "$BACKENDS"
    number_between 1 8 "$QUEUES"
    [[ $PORT != net_af_xdp || $QUEUES == 1 ]] ||
        die "net_af_xdp has one queue on a veth: the driver counts combined channels only, a veth has none"
    number_between 1500 9100 "$MTU"
    number_between 1280 "$MTU" "$CLIENT_MTU"
    number_between 0 4094 "$VLAN"
    number_between 0 4094 "$OUTER_VLAN"
    ((OUTER_VLAN == 0 || VLAN > 0)) || die "--outer-vlan is around --vlan: give both"
    number_between 1 4096 "$FILE_MIB"
    number_between 1 3 "$NODES"
    ((NARROW == 0)) || number_between 1280 1500 "$NARROW"
    [[ $FAMILIES == 4 || $NODES == 1 ]] || die "--families 46 has one node: the router has one IPv6 route"
    [[ $CONTROLLERS =~ ^[013]$ ]] || die "--controllers is 0, 1 or 3: '$CONTROLLERS'"
    [[ $RATE =~ ^[0-9]+[km]?$ ]] || die "a rate is bytes a second, such as 256k: $RATE"
}

up() {
    select_lab "$1"
    shift
    require_root "making network namespaces"
    read_settings "$@"
    [[ ! -e $STATE/settings && -z $(lab_namespaces) ]] ||
        die "lab '$LAB' exists: scripts/lab.sh down $LAB"
    mkdir -p "$STATE"
    trap 'warn "making the lab failed"; down "$LAB"' EXIT
    local name
    for name in "${SETTINGS[@]}"; do
        printf '%s=%s\n' "$name" "${!name}"
    done >"$STATE/settings"
    build_network
    start_services
    start_registry
    trap - EXIT
    say "lab '$LAB': $BACKENDS backends, $MODE, $PORT"
}

down() {
    select_lab "$1"
    require_root "removing network namespaces"
    local namespace left
    end_processes
    for namespace in $(lab_namespaces); do
        ip netns delete "$namespace"
    done
    rm -rf "${STATE:?}"
    rmdir "$LABS" 2>/dev/null || true
    left=$(lab_namespaces)
    [[ -z $left ]] || die "still there: $left"
}

run_on_host() {
    local host=$1
    shift
    [[ $host =~ ^($HOSTS)$ ]] || die "no such host: $host"
    (($#)) || usage
    exec ip netns exec "$(namespace_of "$host")" "$@"
}

show() {
    printf 'lab %s: %s backends, mode %s, port %s, device %s\n' \
        "$LAB" "$BACKENDS" "$MODE" "$PORT" "$(device_string)"
    local i
    printf '  %-8s %s\n' client "$(client_address)"
    for ((i = 1; i <= NODES; i++)); do printf '  %-8s %s\n' "$(node_host "$i")" "$(node_address "$i")"; done
    for ((i = 1; i <= BACKENDS; i++)); do
        printf '  %-8s %s\n' "b$i" "$(backend_address "$i")"
    done
    cat <<END
try:
  scripts/lab.sh exec $LAB client curl -i http://203.0.113.1/
  scripts/lab.sh exec $LAB client curl -o /dev/null 'http://203.0.113.1/slow?rate=1m'
  scripts/lab.sh exec $LAB node curl http://127.0.0.1:9180/metrics
  scripts/lab.sh exec $LAB b1 tcpdump -ni eth0
  scripts/lab.sh requests $LAB
  scripts/lab.sh down $LAB
END
}

list() {
    local directory
    for directory in "$LABS"/*/; do
        [[ ! -f $directory/settings ]] || basename "$directory"
    done
}

command=${1:-}
[[ $command == list ]] && { list; exit; }
(($# >= 2)) || usage
name=$2
shift 2
case $command in
up) up "$name" "$@" ;;
down) down "$name" ;;
attach | config | controller | checker | ctl | route | device | exec | requests | decapsulated | show)
    load_lab "$name"
    case $command in
    attach) attach_tap "${1:-30}" "$(node_host "${2:-1}")" ;;
    config) print_config "$@" ;;
    controller) print_controller "${1:-1}" ;;
    checker) print_checker "${1:-1}" ;;
    ctl) print_ctl ;;
    route) (($#)) || usage; route_over_nodes "$@" ;;
    device) device_string ;;
    exec) (($# >= 2)) || usage; run_on_host "$@" ;;
    requests) count_requests ;;
    decapsulated) print_decapsulated ;;
    show) show ;;
    esac
    ;;
*) usage ;;
esac
