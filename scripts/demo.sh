#!/usr/bin/env bash
# Shows Weir at work on this machine: a client sends HTTP requests to a VIP, a node on a DPDK port
# spreads them over nginx backends, and the backends answer the client directly.
#
#   sudo -E scripts/demo.sh              everything is removed at the end, on Ctrl-C too
#   sudo -E scripts/demo.sh --keep       leaves it running, and prints what to try
#   sudo -E scripts/demo.sh --stop       removes what --keep left
#
#   --requests N      (600)
#   --backends N      (3)
#   --port TYPE       net_tap, net_af_packet or net_af_xdp (net_tap)
#   --mode MODE       ipip or l2dsr (ipip)
#   --weir PROGRAM    (built from this source)
#
# Client, node and backends live in network namespaces (scripts/lab.sh draws the picture); the
# machine's own network is not touched. Exit code 0 when no request failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
source "$here/common.sh"

LAB=demo
VIP=203.0.113.1
ADMIN=http://127.0.0.1:9180
DIRECTORY=${WEIR_LAB_STATE:-/run/weir-lab}/$LAB
MEMORY_MIB=512

keep=no stop=no requests=600 backends=3 port=net_tap mode=ipip weir=''
weir_pid='' reserved_hugepages=no

usage() {
    sed -n '2,/^set /{ s/^# \{0,1\}//p }' "${BASH_SOURCE[0]}" >&2
    exit 2
}

read_arguments() {
    while (($#)); do
        case $1 in
        --keep) keep=yes ;;
        --stop) stop=yes ;;
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
}

lab() { "$here/lab.sh" "$@"; }
on() { lab exec "$LAB" "$@"; }

remove_lab() {
    if [[ -n $weir_pid ]]; then stop_process "$weir_pid" 10 || true; fi
    [[ ! -e $DIRECTORY/hugepages ]] || reserved_hugepages=yes
    lab down "$LAB"
    [[ $reserved_hugepages == no ]] || "$here/hugepages.sh" --release >/dev/null
}

finish() {
    local code=$?
    trap - EXIT INT TERM
    if [[ $keep == yes && $code == 0 ]]; then
        exit 0
    fi
    step "Cleaning up"
    remove_lab
    exit "$code"
}

build_weir() {
    step "Building a release of weir (the first time takes a few minutes)"
    (cd "$REPOSITORY" && cargo build --release)
    weir=$(target_directory)/release/weir
}

# `hugepages` says whether the node can have them.
reserve_hugepages() {
    local before=no
    step "Reserving hugepages"
    [[ ! -e /run/weir-hugepages ]] || before=yes
    if "$here/hugepages.sh" $((MEMORY_MIB + 128)) >&2; then
        hugepages=true
        [[ $before == yes ]] || reserved_hugepages=yes
    else
        hugepages=false
        warn "going on with ordinary pages: slower, otherwise the same"
    fi
}

start_lab() {
    step "Making the lab: a client, a node, $backends backends with nginx"
    lab up "$LAB" --port "$port" --backends "$backends" --mode "$mode" 9>&-
    [[ $reserved_hugepages == no ]] || touch "$DIRECTORY/hugepages"
    lab config "$LAB" --hugepages "$hugepages" --memory "$MEMORY_MIB" >"$DIRECTORY/weir.toml"
}

start_node() {
    step "Starting weir on DPDK device $(lab device "$LAB")"
    "$weir" check "$DIRECTORY/weir.toml" >"$DIRECTORY/check.log" 2>&1 || {
        cat "$DIRECTORY/check.log" >&2
        die "weir check refuses the configuration"
    }
    # A session of its own: Ctrl-C is for this script, which then stops the node in order.
    setsid "$here/lab.sh" exec "$LAB" node "$weir" run "$DIRECTORY/weir.toml" \
        </dev/null >"$DIRECTORY/weir.log" 2>&1 9>&- &
    weir_pid=$!
    wait_for 30 "the node's port" port_is_up_or_gone || node_failed
    if process_gone "$weir_pid" || ! lab attach "$LAB" 5; then node_failed; fi
    wait_for 30 "the node to be ready" node_is_ready_or_gone || node_failed
    node_is_ready >/dev/null || node_failed
    say "ready: every backend's address is resolved"
}

port_is_up_or_gone() {
    [[ $port != net_tap ]] || on node ip -oneline link show dev weir0 up || process_gone "$weir_pid"
}
node_is_ready() { on node curl -sf --max-time 2 "$ADMIN/readyz"; }
node_is_ready_or_gone() { node_is_ready || process_gone "$weir_pid"; }

node_failed() {
    tail -n 20 "$DIRECTORY/weir.log" >&2
    process_gone "$weir_pid" || on node curl -s --max-time 2 "$ADMIN/readyz" >&2 || true
    die "the node did not become ready"
}

# One line a request: status and backend. Each has a connection of its own, so a flow of its own.
send_requests() {
    step "Sending $requests requests to http://$VIP/, 8 at a time, each on its own connection"
    # In the background, as bash looks at signals while it waits, and not while a program runs.
    request_all | tee "$DIRECTORY/answers" |
        awk '{ n++ } n % 200 == 0 { print "    " n; fflush() }' >&2 &
    wait $! || true
}

request_all() {
    on client curl --silent --no-progress-meter --parallel --parallel-max 8 --max-time 10 \
        --header 'Connection: close' --output /dev/null \
        --write-out '%{http_code} %header{x-backend}\n' "http://$VIP/?request=[1-$requests]" || true
}

print_result() {
    local failed
    failed=$((requests - $(grep -c '^200 b[0-9]' "$DIRECTORY/answers" || true)))
    step "What happened"
    printf '%d requests, %d failed\n\n' "$requests" "$failed"
    printf '%-10s %9s %7s   %s\n' backend requests share 'in its own log'
    lab requests "$LAB" | while read -r backend logged; do
        local answered
        answered=$(grep -c "^200 $backend\$" "$DIRECTORY/answers" || true)
        printf '%-10s %9d %6d%%   %d\n' "$backend" "$answered" $((answered * 100 / requests)) "$logged"
    done
    printf '\nThe node counted (from %s/metrics):\n' "$ADMIN"
    on node curl -s --max-time 5 "$ADMIN/metrics" |
        grep -E '^weir_((vip|backend|conntrack|drops)_.*_total|.*_active_flows|drops_total|worker_busy_ratio)' |
        grep -vE ' 0(\.0+)?$' | sed 's/^/  /' || true
    printf '\n'
    ((failed == 0))
}

print_where_to_look() {
    cat <<END
Where to look next:
  README.md                 what Weir is, what it supports, how a packet goes through it
  docs/configuration.md     every key of the file that this node ran
  scripts/demo.sh --keep    the same, left running for you
END
}

print_what_to_try() {
    cat <<END
The lab is still there. Its directory is $DIRECTORY (weir.toml, weir.log, b1/access.log ...). Try:
  scripts/lab.sh exec $LAB client curl -i http://$VIP/
  scripts/lab.sh exec $LAB client curl -o /dev/null 'http://$VIP/slow?rate=1m'    # a long download
  scripts/lab.sh exec $LAB client ping -c 3 $VIP                          # the node answers
  scripts/lab.sh exec $LAB b1 tcpdump -ni eth0                                    # packets as b1 gets them
  scripts/lab.sh exec $LAB node curl -s $ADMIN/metrics
  scripts/lab.sh exec $LAB node curl -s $ADMIN/admin/pools/web
  $weir explain $DIRECTORY/weir.toml --src 192.0.2.10:40000 --dst $VIP:80 --proto tcp
  kill -HUP $weir_pid      # after editing $DIRECTORY/weir.toml: no flow is lost
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
    start_node
    send_requests
    local result=0
    print_result || result=1
    if [[ $keep == yes && $result == 0 ]]; then print_what_to_try; else print_where_to_look; fi
    return "$result"
}

main "$@"
