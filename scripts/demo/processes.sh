# shellcheck shell=bash
# shellcheck disable=SC2154  # the settings are those of demo.sh
# The processes of the demo: how each part of Weir is started, waited for and stopped. Sourced by
# demo.sh, with its settings in variables.

lab() { "$here/lab.sh" "$@"; }
on() { lab exec "$LAB" "$@"; }

# weir ctl as the operator, on the host "control".
ctl() { (eval "$(lab ctl "$LAB")" && on control "$weir" ctl "$@"); }

build_weir() {
    step "Building a release of weir (the first time takes a few minutes)"
    (cd "$REPOSITORY" && cargo build --release)
    weir=$(target_directory)/release/weir
}

# `hugepages` says whether the nodes can have them.
reserve_hugepages() {
    local before=no
    step "Reserving hugepages"
    [[ ! -e /run/weir-hugepages ]] || before=yes
    if "$here/hugepages.sh" $((nodes * MEMORY_MIB + 128)) >&2; then
        hugepages=true
        [[ $before == yes ]] || reserved_hugepages=yes
    else
        hugepages=false
        warn "going on with ordinary pages: slower, otherwise the same"
    fi
}

start_lab() {
    step "Making the lab: a client, $nodes node(s), $backends backends with nginx, $controllers controller(s), 3 checkers"
    lab up "$LAB" --port "$port" --backends "$backends" --mode "$mode" \
        --nodes "$nodes" --controllers "$controllers" 9>&-
    [[ $reserved_hugepages == no ]] || touch "$DIRECTORY/hugepages"
}

# launch HOST SERVICE COMMAND CONFIG: weir COMMAND on HOST, in a session of its own: Ctrl-C is for
# this script, which then stops everything in order. The pid is in SERVICE.pid.
launch() {
    "$weir" check "$4" >"$DIRECTORY/$2.check" 2>&1 || {
        cat "$DIRECTORY/$2.check" >&2
        die "weir check refuses $4"
    }
    setsid "$here/lab.sh" exec "$LAB" "$1" "$weir" "$3" "$4" \
        </dev/null >>"$DIRECTORY/$2.log" 2>&1 9>&- &
    printf '%s\n' $! >"$DIRECTORY/$2.pid"
    disown $!
}

pid_of() { cat "$DIRECTORY/$1.pid"; }
gone() { process_gone "$(pid_of "$1")"; }

# must_come SERVICE SECONDS WHAT COMMAND...: waits for COMMAND; shows the log when it will not.
must_come() {
    local service=$1 seconds=$2 what=$3
    shift 3
    wait_for "$seconds" "$what" came_or_gone "$service" "$@" && "$@" >/dev/null 2>&1 && return
    tail -n 20 "$DIRECTORY/$service.log" >&2
    die "$service: no $what"
}
came_or_gone() { "${@:2}" || gone "$1"; }

start_controller() { launch control "controller$1" controller "$DIRECTORY/controller$1.toml"; }

start_control_plane() {
    local i
    if ((controllers == 1)); then
        step "Starting the controller, with its registry in a file"
    else
        step "Starting $controllers controllers over three members of etcd; one of them will lead"
    fi
    for ((i = 1; i <= controllers; i++)); do
        lab controller "$LAB" "$i" >"$DIRECTORY/controller$i.toml"
        start_controller "$i"
    done
    must_come controller1 30 "leader that answers" ctl status
    step "Starting three checkers, each in a zone of its own"
    for ((i = 1; i <= 3; i++)); do
        lab checker "$LAB" "$i" >"$DIRECTORY/c$i.toml"
        launch "c$i" "c$i" checker "$DIRECTORY/c$i.toml"
    done
}

node_host() { if (($1 == 1)); then printf 'node'; else printf 'node%d' "$1"; fi; }

start_node() {
    local host
    host=$(node_host "$1")
    lab config "$LAB" --node "$1" --hugepages "$hugepages" --memory "$MEMORY_MIB" >"$DIRECTORY/$host.toml"
    launch "$host" "$host" run "$DIRECTORY/$host.toml"
    must_come "$host" 30 "port" port_is_up "$host"
    lab attach "$LAB" 5 "$1" || die "the port of $host cannot be attached"
}

start_nodes() {
    local i
    step "Starting $nodes node(s) of weir, each on DPDK device $(lab device "$LAB")"
    for ((i = 1; i <= nodes; i++)); do start_node "$i"; done
}

port_is_up() { [[ $port != net_tap ]] || on "$1" ip -oneline link show dev weir0 up | grep -q weir0; }
node_is_ready() { on "$1" curl -sf --max-time 2 "$ADMIN/readyz"; }

wait_for_nodes() {
    local i host
    for ((i = 1; i <= nodes; i++)); do
        host=$(node_host "$i")
        must_come "$host" 30 "readiness" node_is_ready "$host"
    done
}

# stop SERVICE SIGNAL: and waits until it has gone.
stop() {
    kill "-$2" "$(pid_of "$1")" 2>/dev/null || true
    wait_for 10 "$1 to end" gone "$1"
}

remove_lab() {
    local file
    for file in "$DIRECTORY"/node*.pid; do
        [[ ! -f $file ]] || stop_process "$(cat "$file")" 10 || true
    done
    [[ ! -e $DIRECTORY/hugepages ]] || reserved_hugepages=yes
    lab down "$LAB"
    [[ $reserved_hugepages == no ]] || "$here/hugepages.sh" --release >/dev/null
}
