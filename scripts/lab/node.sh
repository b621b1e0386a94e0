# shellcheck shell=bash
# The node's side of the lab: its DPDK device, and a configuration of weir. Sourced by lab.sh.

# The address that the kernel's side of the tap gets; see attach_tap.
TAP_KERNEL_MAC=02:77:00:00:ff:02

# The DPDK device string, as in `--vdev` and in the configuration's `device`.
device_string() {
    case $PORT in
    net_tap) printf 'net_tap0,iface=weir0\n' ;;
    net_af_packet) printf 'net_af_packet0,iface=uplink0,qpairs=%d%s\n' "$QUEUES" "$(ring_frames)" ;;
    net_af_xdp) printf 'net_af_xdp0,iface=uplink0,start_queue=0,queue_count=%d\n' "$QUEUES" ;;
    kernel) printf 'none\n' ;;
    esac
}

# Frames of the kernel's ring for a jumbo segment; the driver's own otherwise.
ring_frames() { ((MTU <= 1600)) || printf ',framesz=12288,blocksz=12288,framecnt=512'; }

# The MTU of the DPDK port: net_tap of DPDK 22.11 carries no more than 1500 bytes, net_af_packet what
# the frames of its ring have room for.
port_mtu() {
    case $PORT in
    net_tap) printf '1500\n' ;;
    net_af_packet) if [[ -n $(ring_frames) ]]; then printf '%d\n' "$MTU"; else printf '1500\n'; fi ;;
    *) printf '%d\n' "$MTU" ;;
    esac
}

# attach_tap SECONDS HOST: waits for the node's tap device and joins it to the segment.
#
# Both sides of a tap start with the same address. A bridge keeps frames to the addresses of its
# own ports for itself, so the kernel's side needs another one, or the node gets nothing but
# broadcasts. Starting the DPDK port writes its address to the kernel's side once more, after
# the device is up: so the address is checked until it has stayed for half a second.
attach_tap() {
    [[ $PORT == net_tap ]] || return 0
    number_between 1 600 "$1"
    TAP_HOST=$2
    wait_for "$1" "the node's tap device weir0" tap_is_up ||
        die "weir0 did not come up in $(namespace_of "$2"): is the node running there?"
    ip_on "$2" link set weir0 master cable
    TAP_QUIET_TURNS=0
    wait_for 10 "weir0 to keep its address" tap_keeps_its_address ||
        die "something keeps changing the address of weir0"
}

tap_is_up() { ip_on "$TAP_HOST" -oneline link show dev weir0 up | grep -q weir0; }

tap_keeps_its_address() {
    if ip_on "$TAP_HOST" -oneline link show dev weir0 | grep -q "link/ether $TAP_KERNEL_MAC"; then
        TAP_QUIET_TURNS=$((TAP_QUIET_TURNS + 1))
    else
        ip_on "$TAP_HOST" link set weir0 address "$TAP_KERNEL_MAC"
        TAP_QUIET_TURNS=0
    fi
    ((TAP_QUIET_TURNS >= 5))
}

# As many cores as the port has queues, other than core 0 as long as there are others.
worker_cores() {
    local cores i list=''
    cores=$(nproc)
    ((QUEUES <= cores)) || die "$QUEUES queues need $QUEUES cores, this machine has $cores"
    for ((i = 1; i <= QUEUES; i++)); do
        list+=${list:+, }$((i % cores))
    done
    printf '%s\n' "$list"
}

enough_hugepages() {
    local free
    free=$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 2>/dev/null) || return 1
    ((free * 2 >= $1))
}

# The node's IPv6 address, behind the other.
node_address6() { if speaks_ipv6; then printf ', "%s/64"' "$(address6 2)"; fi; }

# What the pool knows backend N by.
pool_address() {
    if [[ $BACKEND_FAMILY == 6 ]]; then address6 $((10 + $1)); else backend_address "$1"; fi
}

# The port's tags.
tag_lines() {
    ((VLAN == 0)) || printf '\nvlan = %d' "$VLAN"
    ((OUTER_VLAN == 0)) || printf '\nouter_vlan = %d' "$OUTER_VLAN"
}

gateway_line() {
    has_router || return 0
    printf '\ngateways = ["%s"' "$ROUTER_ADDRESS"
    ! speaks_ipv6 || printf ', "%s"' "$(address6 1)"
    printf ']'
}

print_config() {
    local hugepages='' memory=512 flows=200000 number=1 host i
    while (($#)); do
        (($# >= 2)) || usage
        case $1 in
        --hugepages) hugepages=$2 ;;
        --memory) memory=$2 ;;
        --flows) flows=$2 ;;
        --node) number=$2 ;;
        *) usage ;;
        esac
        shift 2
    done
    number_between 64 999999 "$memory"
    if [[ -z $hugepages ]]; then
        if enough_hugepages "$memory"; then hugepages=true; else hugepages=false; fi
    fi
    [[ $PORT != kernel ]] || die "a lab with a kernel port has no DPDK device"
    number_between 1 "$NODES" "$number"
    host=$(node_host "$number")
    mkdir -p "$STATE/$host"
    cat <<END
# Lab $LAB: $PORT, $MODE, $BACKENDS backends.

[node]
name = "$host"
zone = "zone-$number"
admin = "127.0.0.1:9180"
state_dir = "$STATE/$host"

[dpdk]
memory_mib = $memory
hugepages = $hugepages
main_core = 0
worker_cores = [$(worker_cores)]
idle = "backoff"
file_prefix = "weir-$LAB-$number"

[[port]]
name = "uplink"
device = "$(device_string)"
mtu = $(port_mtu)
addresses = ["$(node_address "$number")/24"$(node_address6)]$(gateway_line)$(tag_lines)

[conntrack]
flows = $flows

END
    if ((CONTROLLERS > 0)); then
        print_client "$host"
        return
    fi
    cat <<END
[[pool]]
id = "web"
forwarding = "$MODE"
hash_secret = "000102030405060708090a0b0c0d0e0f"

END
    for ((i = 1; i <= BACKENDS; i++)); do
        printf '  [[pool.backend]]\n  id = "b%d"\n  address = "%s"\n\n' "$i" "$(pool_address "$i")"
    done
    cat <<END
[[vip]]
address = "$VIP"
port = 80
protocol = "tcp"
pool = "web"
END
    speaks_ipv6 || return 0
    cat <<END

[[vip]]
address = "$VIP6"
port = 80
protocol = "tcp"
pool = "web"
END
}
