# shellcheck shell=bash
# The control plane's side of the lab: a management network, certificates, etcd, and the
# configurations of controllers and checkers. Sourced by lab.sh.
#
#   control 198.51.100.1 to .3   a controller on each address; etcd on its loopback
#   nodes   198.51.100.11 to .13
#   c1 ...  198.51.100.21 to .23 checkers, each with a leg on the segment (192.0.2.6 to .8)

MANAGEMENT_MTU=1500
CHECKERS=3

controller_address() { printf '198.51.100.%d' "$1"; }

build_management() {
    local i host
    ip_on switch link add management mtu "$MANAGEMENT_MTU" type bridge stp_state 0 mcast_snooping 0
    ip_on switch link set management up
    make_namespace control
    connect_management control 1
    for ((i = 1; i <= CONTROLLERS; i++)); do
        ip_on control address add "$(controller_address "$i")/24" dev mgmt0
    done
    for ((i = 1; i <= NODES; i++)); do
        host=$(node_host "$i")
        connect_management "$host" $((10 + i))
        ip_on "$host" address add "198.51.100.$((10 + i))/24" dev mgmt0
    done
    for ((i = 1; i <= CHECKERS; i++)); do
        make_namespace "c$i"
        connect_management "c$i" $((20 + i))
        ip_on "c$i" address add "198.51.100.$((20 + i))/24" dev mgmt0
        connect "c$i" eth0 $((5 + i)) "$MTU" 1
        ip_on "c$i" address add "192.0.2.$((5 + i))/24" dev eth0
        ip_on "c$i" link set eth0 mtu "$CLIENT_MTU"
    done
    make_certificates
}

# connect_management HOST NUMBER
connect_management() {
    ip link add name mgmt0 netns "$(namespace_of "$1")" mtu "$MANAGEMENT_MTU" \
        address "$(printf '02:78:00:00:00:%02x' "$2")" \
        type veth peer name "mgmt-$1" netns "$(namespace_of switch)" mtu "$MANAGEMENT_MTU"
    ip_on switch link set "mgmt-$1" master management up
    ip_on "$1" link set mgmt0 up
}

# An authority, and what it says of each party; a token for the operator.
make_certificates() {
    local tls=$STATE/tls i names=''
    mkdir -p "$tls"
    (
        umask 077
        cd "$tls"
        openssl ecparam -genkey -name prime256v1 -noout -out ca.key
        openssl req -x509 -new -key ca.key -days 30 -subj "/CN=lab $LAB" -out ca.pem
        for ((i = 1; i <= 3; i++)); do names+="IP:$(controller_address "$i"),"; done
        sign controller "$names"
        for ((i = 1; i <= NODES; i++)); do sign "$(node_host "$i")" ''; done
        for ((i = 1; i <= CHECKERS; i++)); do sign "c$i" ''; done
        openssl rand -hex 32 >operator.token
    ) 2>"$STATE/openssl.log" || { cat "$STATE/openssl.log" >&2; die "making certificates failed"; }
}

# sign NAME ADDRESSES: NAME.pem and NAME.key, good for client and server.
sign() {
    openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out "$1.pem" \
        -extfile <(printf 'subjectAltName=%sDNS:%s\nbasicConstraints=critical,CA:false\n' "$2" "$1")
}

# One etcd for one controller is not needed: it has a file. Three controllers share three members.
start_registry() {
    local i cluster='' port
    ((CONTROLLERS > 1)) || return 0
    for ((i = 1; i <= 3; i++)); do cluster+="${cluster:+,}e$i=http://127.0.0.1:$((i * 10000 + 2380))"; done
    for ((i = 1; i <= 3; i++)); do
        start_etcd "$i" "$cluster"
    done
    for ((i = 1; i <= 3; i++)); do
        port=$((i * 10000 + 2379))
        wait_for 30 "etcd e$i" etcd_is_healthy "$port" || { tail -n 20 "$STATE/control/etcd$i.log" >&2; return 1; }
    done
}

# start_etcd NUMBER CLUSTER
start_etcd() {
    local client=http://127.0.0.1:$(($1 * 10000 + 2379)) peer=http://127.0.0.1:$(($1 * 10000 + 2380))
    mkdir -p "$STATE/control"
    launch control "etcd$1" etcd --name "e$1" --data-dir "$STATE/control/etcd$1" \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --initial-cluster "$2" --initial-cluster-token "$LAB" --initial-cluster-state new
}

etcd_is_healthy() { on control curl -sf --max-time 2 "http://127.0.0.1:$1/health" | grep -q true; }

controller_endpoints() {
    local i list=''
    for ((i = 1; i <= CONTROLLERS; i++)); do
        list+="${list:+, }\"https://$(controller_address "$i"):9190\""
    done
    printf '%s\n' "$list"
}

# print_client HOST: the section [controller] of a node or checker.
print_client() {
    cat <<END
[controller]
endpoints = [$(controller_endpoints)]
ca = "$STATE/tls/ca.pem"
certificate = "$STATE/tls/$1.pem"
key = "$STATE/tls/$1.key"
END
}

print_controller() {
    local i host
    number_between 1 "$CONTROLLERS" "${1:-1}"
    mkdir -p "$STATE/control/controller$1"
    cat <<END
# Lab $LAB: controller $1 of $CONTROLLERS.

[controller]
name = "controller-$1"
listen = "$(controller_address "$1"):9190"
http = "$(controller_address "$1"):9191"
state_dir = "$STATE/control/controller$1"

END
    if ((CONTROLLERS == 1)); then
        printf '[registry]\nkind = "embedded"\n'
    else
        printf '[registry]\nkind = "etcd"\nendpoints = ["http://127.0.0.1:12379", "http://127.0.0.1:22379", "http://127.0.0.1:32379"]\n'
    fi
    cat <<END

[tls]
certificate = "$STATE/tls/controller.pem"
key = "$STATE/tls/controller.key"
client_ca = "$STATE/tls/ca.pem"

[[access]]
name = "operator"
role = "operator"
token_file = "$STATE/tls/operator.token"
END
    for ((i = 1; i <= NODES; i++)); do print_access "$(node_host "$i")" node; done
    for ((i = 1; i <= CHECKERS; i++)); do print_access "c$i" checker; done
}

print_access() {
    printf '\n[[access]]\nname = "%s"\nrole = "%s"\ncertificate = "%s"\n' "$1" "$2" "$1"
}

print_checker() {
    number_between 1 "$CHECKERS" "${1:-1}"
    cat <<END
# Lab $LAB: checker $1.

[checker]
id = "c$1"
zone = "zone-$1"

$(print_client "c$1")
END
}

# print_ctl: the environment in which \`weir ctl\` on the host "control" is the operator.
print_ctl() {
    local i list=''
    for ((i = 1; i <= CONTROLLERS; i++)); do list+="${list:+,}https://$(controller_address "$i"):9190"; done
    printf 'export WEIR_ENDPOINTS=%s WEIR_CA=%s WEIR_TOKEN_FILE=%s\n' \
        "$list" "$STATE/tls/ca.pem" "$STATE/tls/operator.token"
}
