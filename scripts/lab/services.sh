# shellcheck shell=bash
# What runs on the backends: nginx, and the decapsulator. Sourced by lab.sh.
#
# Processes are started in sessions of their own, so that Ctrl-C in a script's terminal reaches the
# script and not them. A process belongs to the lab exactly when it is in one of its namespaces;
# pid files are there for tests that stop one backend.

WEB_PORTS=(80 8000 8001 8002 8003)

start_services() {
    local i decap='' with_ipv6=()
    [[ $MODE == l2dsr ]] || decap=$(decapsulator)
    if speaks_ipv6; then with_ipv6=(--ipv6); fi
    head -c "${FILE_MIB}M" /dev/urandom >"$STATE/download.bin"
    for ((i = 1; i <= BACKENDS; i++)); do
        mkdir -p "$STATE/b$i"
        write_nginx_configuration "b$i"
        launch "b$i" nginx nginx -p "$STATE/b$i" -c nginx.conf -e error.log
        [[ -z $decap ]] || launch "b$i" decap "$decap" "${with_ipv6[@]}" --mtu "$CLIENT_MTU" --stats "$STATE/b$i/decap.json"
    done
    for ((i = 1; i <= BACKENDS; i++)); do
        wait_for 10 "nginx on b$i" on "b$i" curl -sf --max-time 2 "http://127.0.0.1/up" ||
            { cat "$STATE/b$i/"*.log >&2; return 1; }
        [[ -z $decap ]] || wait_for 10 "the decapsulator on b$i" test -s "$STATE/b$i/decap.json" ||
            { cat "$STATE/b$i/decap.log" >&2; return 1; }
    done
}

# Path of weir-decap: WEIR_DECAP, or built now.
decapsulator() {
    if [[ -n ${WEIR_DECAP:-} ]]; then
        [[ -x $WEIR_DECAP ]] || die "WEIR_DECAP=$WEIR_DECAP is no program"
        printf '%s\n' "$WEIR_DECAP"
        return
    fi
    require_cargo
    (cd "$REPOSITORY" && cargo build --quiet --package weir-decap) ||
        die "building the decapsulator failed"
    printf '%s/debug/weir-decap\n' "$(target_directory)"
}

# launch HOST SERVICE COMMAND...: in the background, with SERVICE.log and SERVICE.pid.
launch() {
    local host=$1 service=$2 directory=$STATE/$1
    shift 2
    setsid ip netns exec "$(namespace_of "$host")" "$@" \
        </dev/null >"$directory/$service.log" 2>&1 &
    printf '%s\n' $! >"$directory/$service.pid"
}

write_nginx_configuration() {
    local host=$1 directory=$STATE/$1
    {
        cat <<END
# $host of lab $LAB
daemon off;
user root;
worker_processes 1;
pid nginx.master.pid;
events { worker_connections 8192; }
http {
    log_format lab '\$remote_addr:\$remote_port \$server_addr:\$server_port \$request_uri \$status';
    access_log access.log lab;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    default_type application/octet-stream;
    add_header X-Backend $host always;
    # /slow?rate=1m overrides the lab's rate.
    map \$arg_rate \$download_rate { default \$arg_rate; "" $RATE; }
    server {
        $(printf 'listen 0.0.0.0:%d backlog=4096;\n        ' "${WEB_PORTS[@]}")
        $(! speaks_ipv6 || printf 'listen [::]:%d backlog=4096;\n        ' "${WEB_PORTS[@]}")
        location = / { default_type text/plain; return 200 "$host\n"; }
        location = /up { access_log off; return 204; }
        # Readiness, taken back by a file.
        location = /ready { access_log off; if (-f $directory/unready) { return 503; } return 200; }
        location = /fast { alias $STATE/download.bin; }
        location = /slow { alias $STATE/download.bin; limit_rate \$download_rate; }
    }
}
END
    } >"$directory/nginx.conf"
    : >"$directory/access.log"
}

# One line a backend: its name, and how many requests its nginx has answered.
count_requests() {
    local i
    for ((i = 1; i <= BACKENDS; i++)); do
        printf 'b%d %d\n' "$i" "$(wc -l <"$STATE/b$i/access.log")"
    done
}

print_decapsulated() {
    local i
    for ((i = 1; i <= BACKENDS; i++)); do
        [[ ! -f $STATE/b$i/decap.json ]] ||
            printf '{"backend":"b%d","stats":%s}\n' "$i" "$(cat "$STATE/b$i/decap.json")"
    done
}

lab_processes() {
    local namespace
    for namespace in $(lab_namespaces); do
        ip netns pids "$namespace"
    done
}

no_lab_processes() { [[ -z $(lab_processes) ]]; }

# Ends every process in the lab's namespaces: TERM, and KILL for what is left after 5 s.
end_processes() {
    local pid
    for pid in $(lab_processes); do
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait_for 5 "the processes of lab '$LAB' to end" no_lab_processes && return
    for pid in $(lab_processes); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait_for 5 "the killed processes of lab '$LAB' to go" no_lab_processes || true
}
