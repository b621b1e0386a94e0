#!/usr/bin/env bash
# Installs what Weir's build, tests and demo need on Debian 12 beside a Rust toolchain.
#
#   scripts/install-deps.sh            installs what is missing; silent when nothing is
#   scripts/install-deps.sh --check    only lists what is missing; exit code 1 when something is
#
# Asks dpkg first, so that a second run costs nothing and needs neither root nor network.
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGES=(
    # to build: libdpdk and what bindgen needs to read its headers, protoc with its own messages
    build-essential pkg-config libdpdk-dev clang libclang-dev protobuf-compiler
    libprotobuf-dev
    # to run: DPDK's drivers; testpmd, which the lab's own test uses
    dpdk dpdk-dev
    # the lab: namespaces and links, clients and servers
    iproute2 ethtool nginx-light curl jq openssl iputils-ping iputils-arping traceroute
    tcpdump procps
    # the control plane: etcd for its registry (the demo and tests start their own)
    etcd-server
    # the tests; python3-venv: for a client in another language; bird2: a BGP session through a port
    shellcheck python3-venv bird2
)

POLICY=/usr/sbin/policy-rc.d

missing_packages() {
    local package
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            printf '%s\n' "$package"
    done
}

# Debian starts a server when it is installed. Nobody asked for a web server on port 80 of this
# machine: the lab starts its own. So no service is started now, and nginx, etcd and bird not at
# boot either.
install_packages() {
    local keep_nginx=no keep_etcd=no keep_bird=no wrote_policy=no log
    dpkg-query --show nginx-common >/dev/null 2>&1 && keep_nginx=yes
    dpkg-query --show etcd-server >/dev/null 2>&1 && keep_etcd=yes
    dpkg-query --show bird2 >/dev/null 2>&1 && keep_bird=yes
    log=$(mktemp)
    if [[ ! -e $POLICY ]]; then
        wrote_policy=yes
        # shellcheck disable=SC2064  # the paths as they are now
        trap "rm -f '$POLICY' '$log'" EXIT
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "apt-get update"
    apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
    say "apt-get install $*"
    apt-get install -y --no-install-recommends "$@" 2>&1 | tee "$log" |
        awk '/^(Get:|Setting up )/ { print "      " $0; fflush() }' >&2 ||
        { tail -n 20 "$log" >&2; die "apt-get install failed"; }
    [[ $wrote_policy == no ]] || rm -f "$POLICY"
    rm -f "$log"
    if [[ $keep_nginx == no && -d /run/systemd/system ]]; then
        systemctl disable --quiet nginx.service || true
        say "nginx is installed but not enabled: the lab starts its own"
    fi
    if [[ $keep_etcd == no && -d /run/systemd/system ]]; then
        systemctl disable --quiet etcd.service || true
        say "etcd is installed but not enabled: the tests start their own"
    fi
    if [[ $keep_bird == no && -d /run/systemd/system ]]; then
        systemctl disable --quiet bird.service || true
        say "bird is installed but not enabled: the tests start their own"
    fi
}

main() {
    [[ -x /usr/bin/dpkg-query && -x /usr/bin/apt-get ]] ||
        die "this is not a Debian system; install by hand what corresponds to: ${PACKAGES[*]}"
    local missing
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    if [[ ${1:-} == --check ]]; then
        printf '%s\n' "${missing[@]}"
        return 1
    fi
    step "Installing ${#missing[@]} missing packages: ${missing[*]}"
    [[ $EUID -eq 0 ]] ||
        die "installing packages needs root: sudo apt-get install ${missing[*]}"
    install_packages "${missing[@]}"
}

main "$@"
