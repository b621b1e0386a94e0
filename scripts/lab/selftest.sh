#!/usr/bin/env bash
# Tests the lab without Weir: what fails here is the lab's fault, or the machine's.
#
#   scripts/lab/selftest.sh [--no-hugepages]
#
# The backends' half: a stand-in that encapsulates in user space forwards real HTTP requests, whose
# replies come straight back. The node's half: testpmd answers ping from the client on each port
# type, with the EAL arguments that Weir uses, with hugepages (when there are enough) and without.
# Prints `ok` or `FAILED` a line; exit code 1 when one failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/common.sh
source "$here/common.sh"

LAB=selftest-$$
MEMORY_MIB=256
failures=0
reserved_hugepages=no

lab() { "$here/lab.sh" "$@"; }
on() { lab exec "$LAB" "$@"; }

clean_up() {
    lab down "$LAB"
    rm -rf "$work"
    [[ $reserved_hugepages == no ]] || "$here/hugepages.sh" --release >/dev/null
}

report() {
    local result=ok
    if "${@:2}"; then :; else
        result=FAILED
        failures=$((failures + 1))
    fi
    printf '%-6s %s\n' "$result" "$1"
}

# 30 requests over 30 connections reach all three backends, by decapsulation only, and a download
# in full-size packets arrives whole.
requests_cross_the_decapsulators() {
    local got
    got=$(on client curl -s --max-time 5 -H 'Connection: close' "http://203.0.113.1/?[1-30]" |
        sort | uniq -c | awk '{ print $2 } { n += $1 } END { print n }' | xargs)
    [[ $got == "b1 b2 b3 30" ]] || { warn "requests: $got"; return 1; }
    [[ $(lab requests "$LAB" | awk '{ n += $2 } END { print n }') == 30 ]] || return 1
    on client curl -s --max-time 20 -o "$work/download" http://203.0.113.1/fast || return 1
    cmp -s "$work/download" "${WEIR_LAB_STATE:-/run/weir-lab}/$LAB/download.bin" || { warn "download differs"; return 1; }
    wait_for 5 "the decapsulators' counters" decapsulators_dropped_nothing
}

decapsulators_dropped_nothing() {
    lab decapsulated "$LAB" | jq -es 'length == 3 and all(.stats.packets > 0 and .stats.dropped == {})'
}

full_size_packets_cross() {
    on client ping -q -c 3 -i 0.2 -W 2 -M 'do' -s 1472 203.0.113.1 >/dev/null
}

test_backends() {
    lab up "$LAB" --port kernel --file-mib 8
    # The node's kernel routes what is for the VIP into the stand-in.
    on node sysctl -qw net.ipv4.ip_forward=1
    on node "$encap" 192.0.2.11 192.0.2.12 192.0.2.13 >"$work/encap.log" 2>&1 &
    wait_for 5 "the stand-in's device" on node ip link show dev encap0 up
    on node ip route add 203.0.113.0/24 dev encap0
    report "ipip: requests and a download through the decapsulators" requests_cross_the_decapsulators
    report "ipip: 1500-byte packets fit, encapsulated" full_size_packets_cross
    lab down "$LAB"
}

all_pings_answered() {
    local lost
    lab attach "$LAB" || return 1
    wait_for 15 "the first answer" on client ping -q -c 1 -W 1 192.0.2.2 || return 1
    # icmpecho answers for every address, as a node does for its VIPs.
    lost=$(on client ping -q -c 40 -i 0.02 -W 2 203.0.113.1 | grep -o '[0-9.]*% packet loss')
    [[ $lost == "0% packet loss" ]] || { warn "$lost"; return 1; }
}

all_pings_answered_or_why_not() {
    all_pings_answered || {
        tail -n 20 "$work/testpmd.log" >&2
        return 1
    }
}

# test_port TYPE QUEUES MEMORY_ARGUMENTS...
test_port() {
    local type=$1 queues=$2 pid
    shift 2
    lab up "$LAB" --port "$type" --queues "$queues" --mode l2dsr --backends 1 --file-mib 1
    # testpmd runs until its input ends; this one never does.
    mkfifo "$work/input.$type"
    on node dpdk-testpmd -l "0-$(($(nproc) > 1 ? 1 : 0))" -m "$MEMORY_MIB" --no-pci --no-telemetry \
        --file-prefix "$LAB" "$@" --vdev "$(lab device "$LAB")" -- \
        --forward-mode=icmpecho --auto-start --rxq "$queues" --txq "$queues" \
        --total-num-mbufs 16384 0<>"$work/input.$type" >"$work/testpmd.log" 2>&1 &
    pid=$!
    report "$type, $queues queue(s), $*: 40 of 40 pings answered" \
        all_pings_answered_or_why_not
    stop_process "$pid" 10
    rm -f "$work/input.$type"
    lab down "$LAB"
}

test_ports() {
    local type
    for type in net_tap net_af_packet net_af_xdp; do
        test_port "$type" 1 "$@"
    done
    test_port net_tap 2 "$@"
    test_port net_af_packet 2 "$@"
}

require_root "the lab"
require_cargo
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT TERM
step "Building the decapsulator and the stand-in"
(cd "$here/.." && cargo build --quiet --package weir-decap --bins --example encap)
encap=$(target_directory)/debug/examples/encap
step "Backends"
test_backends
step "DPDK ports, ordinary pages"
test_ports --no-huge
if [[ -e /run/weir-hugepages ]]; then had_reserved=yes; else had_reserved=no; fi
if [[ ${1:-} == --no-hugepages ]]; then
    say "hugepages: left out"
elif "$here/hugepages.sh" $((MEMORY_MIB + 128)) >/dev/null; then
    [[ $had_reserved == yes ]] || reserved_hugepages=yes
    step "DPDK ports, hugepages"
    test_ports --in-memory
else
    warn "no hugepages: that half is left out"
fi
((failures == 0))
