# shellcheck shell=bash
# The lab's namespaces and links. Sourced by lab.sh, with LAB and the settings in variables.
#
# Links are made with both ends already in their namespaces: the machine's own namespace never
# sees one. Deleting the namespaces therefore deletes everything.

CLIENT_ADDRESS=192.0.2.10
SEGMENT=192.0.2.0/24
# With several nodes, a router spreads packets over them, and the client is behind it. So it is with a
# narrow way back to the client.
ROUTER_ADDRESS=192.0.2.1
OUTSIDE=198.18.0.0/24
OUTSIDE_ROUTER=198.18.0.1
OUTSIDE_CLIENT=198.18.0.10
VIP=203.0.113.1
VIPS=203.0.113.0/24
# The same over IPv6; host numbers are those of the IPv4 addresses, in decimal digits.
SEGMENT6=2001:db8:0:1::
VIP6=2001:db8:cafe::1
VIPS6=2001:db8:cafe::/64
OUTSIDE6=2001:db8:0:2::

# Names of hosts.
HOSTS='client|node[23]?|switch|router|control|c[1-3]|b[0-9]+'

namespace_of() { printf 'weir-%s-%s' "$LAB" "$1"; }

# The namespaces that are this lab's, also when its directory is lost.
lab_namespaces() {
    ip netns list | awk '{ print $1 }' | grep -E "^weir-$LAB-($HOSTS)\$" || true
}

on() {
    local host=$1
    shift
    ip netns exec "$(namespace_of "$host")" "$@"
}

ip_on() {
    local host=$1
    shift
    ip -netns "$(namespace_of "$host")" "$@"
}

# node_host NUMBER: "node", "node2", "node3".
node_host() { if (($1 == 1)); then printf 'node'; else printf 'node%d' "$1"; fi; }
node_address() { printf '192.0.2.%d' $((1 + $1)); }

backend_address() { printf '192.0.2.%d' $((10 + $1)); }

# address6 NUMBER: of the host whose IPv4 address ends in NUMBER.
address6() { printf '%s%d' "$SEGMENT6" "$1"; }
has_router() { ((NODES > 1 || NARROW > 0)); }
speaks_ipv6() { [[ $FAMILIES == 46 ]]; }

# mac_of NUMBER: the locally administered address of the host whose IPv4 address ends in NUMBER.
mac_of() { printf '02:77:00:00:00:%02x' "$1"; }

build_network() {
    local i
    make_namespace switch
    ip_on switch link add segment mtu "$MTU" type bridge stp_state 0 mcast_snooping 0
    ip_on switch link set segment up
    ! has_router || make_router
    make_client
    for ((i = 1; i <= NODES; i++)); do
        make_node "$i"
    done
    for ((i = 1; i <= BACKENDS; i++)); do
        make_backend "$i"
    done
    ((CONTROLLERS == 0)) || build_management
}

make_namespace() {
    ip netns add "$(namespace_of "$1")"
    ip_on "$1" link set lo up
    # Without --families 46 no router solicitation or multicast report disturbs a counter. The
    # replies of a DSR backend come from an address that is routed elsewhere: no path filter.
    local without_ipv6=1
    # Only hosts with addresses; not the switch, and not the kernel of a DPDK node.
    if speaks_ipv6 && [[ $1 == client || $1 == router || $1 == b* ]]; then without_ipv6=0; fi
    on "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=$without_ipv6 \
        net.ipv6.conf.default.disable_ipv6=$without_ipv6 \
        net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0 \
        net.ipv6.conf.default.router_solicitations=0 \
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
}

# connect HOST DEVICE NUMBER MTU QUEUES: a cable from DEVICE on HOST to the switch.
connect() {
    local host=$1 device=$2 number=$3 mtu=$4 queues=$5
    ip link add name "$device" netns "$(namespace_of "$host")" mtu "$mtu" \
        address "$(mac_of "$number")" numtxqueues "$queues" numrxqueues "$queues" \
        type veth peer name "to-$host" netns "$(namespace_of switch)" mtu "$MTU" \
        numtxqueues "$queues" numrxqueues "$queues"
    # A veth leaves checksums and segmentation to hardware that is not there: a packet that only
    # crosses veths never gets them. DPDK and the decapsulator see the bytes as they are.
    on "$host" ethtool -K "$device" tx off gso off tso off gro off >/dev/null
    on switch ethtool -K "to-$host" tx off gso off tso off gro off >/dev/null
    ip_on switch link set "to-$host" master segment up
    ip_on "$host" link set "$device" up
}

client_address() { if has_router; then printf '%s' "$OUTSIDE_CLIENT"; else printf '%s' "$CLIENT_ADDRESS"; fi; }

# Bytes of the outer headers.
overhead() {
    local ip=20
    [[ $BACKEND_FAMILY == 4 ]] || ip=40
    case $MODE in
    ipip) echo "$ip" ;;
    gre) echo $((ip + 4)) ;;
    gue) echo $((ip + 8)) ;;
    l2dsr) echo 0 ;;
    esac
}

# The largest packet that fits the node's port with the outer header before it.
path_mtu() {
    local most
    most=$(($(port_mtu) - $(overhead)))
    printf '%d\n' $((most < CLIENT_MTU ? most : CLIENT_MTU))
}

make_client() {
    make_namespace client
    # A test opens many short connections to one address and port.
    on client sysctl -qw net.ipv4.ip_local_port_range="1024 65535" net.ipv4.tcp_tw_reuse=1
    if has_router; then
        ip link add name eth0 netns "$(namespace_of client)" mtu "$CLIENT_MTU" \
            type veth peer name eth1 netns "$(namespace_of router)" mtu "$CLIENT_MTU"
        on client ethtool -K eth0 tx off gso off tso off gro off >/dev/null
        on router ethtool -K eth1 tx off gso off tso off gro off >/dev/null
        ip_on router address add "$OUTSIDE_ROUTER/24" dev eth1
        ip_on router link set eth1 up
        ip_on client address add "$OUTSIDE_CLIENT/24" dev eth0
        ip_on client link set eth0 up
        if ((NARROW == 0)); then
            ip_on client route add default via "$OUTSIDE_ROUTER" mtu "$(path_mtu)"
            return
        fi
        ip_on client route add default via "$OUTSIDE_ROUTER"
        # What comes from the client is as long as its link takes; what goes there is not.
        ip_on router route replace "$OUTSIDE" dev eth1 mtu lock "$NARROW"
        speaks_ipv6 || return 0
        ip_on router address add "${OUTSIDE6}1/64" dev eth1 nodad noprefixroute
        ip_on router route add "$OUTSIDE6/64" dev eth1 mtu lock "$NARROW"
        ip_on client address add "${OUTSIDE6}10/64" dev eth0 nodad
        ip_on client route add default via "${OUTSIDE6}1"
        return
    fi
    connect client eth0 10 "$CLIENT_MTU" 1
    ip_on client address add "$CLIENT_ADDRESS/24" dev eth0
    ip_on client route add "$VIPS" via "$(node_address 1)" mtu "$(path_mtu)"
    speaks_ipv6 || return 0
    ip_on client address add "$(address6 10)/64" dev eth0 nodad
    ip_on client route add "$VIPS6" via "$(address6 2)" mtu "$(path_mtu)"
}

# Equal-cost routes to the VIPs over all nodes, by the hash of addresses and ports.
make_router() {
    make_namespace router
    connect router eth0 1 "$MTU" 1
    ip_on router address add "$ROUTER_ADDRESS/24" dev eth0
    on router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1 \
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0
    if speaks_ipv6; then
        on router sysctl -qw net.ipv6.conf.all.forwarding=1
        ip_on router address add "$(address6 1)/64" dev eth0 nodad
        ip_on router route add "$VIPS6" via "$(address6 2)"
    fi
    route_over_nodes $(seq "$NODES")
}

# route_over_nodes NUMBER...: what a routing protocol does when nodes come and go.
route_over_nodes() {
    local number hops=()
    for number; do hops+=(nexthop via "$(node_address "$number")"); done
    ip_on router route replace "$VIPS" "${hops[@]}"
}

make_node() {
    local host
    host=$(node_host "$1")
    make_namespace "$host"
    # shellcheck disable=SC2153  # a setting, from lab.sh
    connect "$host" uplink0 $((1 + $1)) "$MTU" "$QUEUES"
    ((VLAN == 0)) || tag_cable "to-$host"
    case $PORT in
    net_tap)
        # The tap device appears when the DPDK process starts; attach_tap puts it in here.
        ip_on "$host" link add cable mtu "$MTU" type bridge stp_state 0 mcast_snooping 0
        ip_on "$host" link set uplink0 master cable
        ip_on "$host" link set cable up
        ;;
    kernel) ip_on "$host" address add "$(node_address "$1")/24" dev uplink0 ;;
    esac
}

# tag_cable DEVICE: this port of the switch is tagged; see tags.c.
tag_cable() {
    local object=$STATE/tags.o flags=("-DVLAN=$VLAN")
    ((OUTER_VLAN == 0)) || flags+=("-DOUTER_VLAN=$OUTER_VLAN" -DOUTER_PROTOCOL=0x88a8)
    # Among the kernel's headers those of the machine are found beside the others.
    clang -O2 -Wall -Wextra -target bpf -idirafter "/usr/include/$(cc -dumpmachine)" "${flags[@]}" \
        -c "$REPOSITORY/scripts/lab/tags.c" -o "$object"
    on switch tc qdisc add dev "$1" clsact
    local direction
    for direction in egress ingress; do
        on switch tc filter add dev "$1" "$direction" bpf direct-action obj "$object" sec "$direction"
    done
}

make_backend() {
    local host=b$1 address
    address=$(backend_address "$1")
    make_namespace "$host"
    # Nobody but the node may answer ARP for the VIP, and ARP requests must not be sent from it.
    on "$host" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    connect "$host" eth0 $((10 + $1)) "$MTU" 1
    ip_on "$host" address add "$address/24" dev eth0 noprefixroute
    # The segment takes larger packets than the client does.
    ip_on "$host" route add "$SEGMENT" dev eth0 src "$address" mtu "$CLIENT_MTU"
    ! has_router || ip_on "$host" route add "$OUTSIDE" via "$ROUTER_ADDRESS" mtu "$CLIENT_MTU"
    ip_on "$host" address add "$VIP/32" dev lo
    # The rest of the prefix too, for labs with many VIPs.
    ip_on "$host" route add local "$VIPS" dev lo
    speaks_ipv6 || return 0
    ip_on "$host" address add "$(address6 $((10 + $1)))/64" dev eth0 nodad noprefixroute
    ip_on "$host" route add "$SEGMENT6/64" dev eth0 src "$(address6 $((10 + $1)))" mtu "$CLIENT_MTU"
    ! has_router ||
        ip_on "$host" route add "$OUTSIDE6/64" via "$(address6 1)" mtu "$CLIENT_MTU"
    ip_on "$host" address add "$VIP6/128" dev lo nodad
    ip_on "$host" route add local "$VIPS6" dev lo
}
