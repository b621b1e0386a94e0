# shellcheck shell=bash
# shellcheck disable=SC2154  # the settings are those of demo.sh
# What the demo shows, act by act. Sourced by demo.sh. Each act returns 1 when what it shows did
# not happen.

register_backends() {
    local i
    step "Telling the controller: a pool, a VIP, $backends backends (weir ctl)"
    show_command pool create web --forwarding "$mode"
    show_command vip bind web "$VIP:80/tcp"
    for ((i = 1; i <= backends; i++)); do
        show_command backend register web "b$i" --ip "192.0.2.$((10 + i))" --port 80
    done
    wait_for 30 "the checkers to pass all backends" backends_are HEALTHY "$backends" || die "$(ctl backend list)"
    ctl backend list
    wait_for_nodes
}

show_command() {
    printf '    $ weir ctl %s\n' "$*" >&2
    ctl "$@" >/dev/null
}

# backends_are STATE NUMBER
backends_are() {
    local count
    count=$(ctl backend list --json | jq -s "[.. | objects | select(.state? == \"$1\")] | length")
    ((count == $2))
}
state_is() { [[ $(ctl backend show "$1" --json | jq -r .state) == "$2" ]]; }

act_requests() {
    step "Sending $requests requests to http://$VIP/, 8 at a time, each on its own connection"
    send_requests "$requests" "$DIRECTORY/answers"
    print_shares "$DIRECTORY/answers" "$requests"
}

# A backend dies: refused at first, then ejected; no new connection fails after that.
act_death() {
    local died ejected last after
    step "Killing nginx on b1 under a steady trickle of requests"
    start_trickle "$DIRECTORY/trickle.death"
    sleep 1
    died=$(now_ms)
    kill -KILL -- "-$(cat "$DIRECTORY/b1/nginx.pid")"
    wait_for 15 "the ejection of b1" state_is b1 UNHEALTHY || { stop_trickle; return 1; }
    ejected=$(now_ms)
    sleep 3
    stop_trickle
    last=$(last_failure "$DIRECTORY/trickle.death" "$died")
    after=$((ejected + 500))
    printf 'b1 was found UNHEALTHY %s after its death; the last failed request began %s after it\n' \
        "$(seconds $((ejected - died)))" "$(seconds "$last")"
    printf '%d requests since the ejection, %d failed\n\n' \
        "$(requests "$DIRECTORY/trickle.death" "$after")" "$(failures "$DIRECTORY/trickle.death" "$after")"
    step "Starting nginx on b1 again"
    restart_nginx b1
    wait_for 20 "b1 to be admitted" state_is b1 HEALTHY || return 1
    (($(failures "$DIRECTORY/trickle.death" "$after") == 0))
}

restart_nginx() {
    local pid
    setsid "$here/lab.sh" exec "$LAB" "$1" nginx -p "$DIRECTORY/$1" -c nginx.conf -e error.log \
        </dev/null >>"$DIRECTORY/$1/nginx.log" 2>&1 9>&- &
    pid=$!
    printf '%s\n' "$pid" >"$DIRECTORY/$1/nginx.pid"
}

# A drain under long downloads: they end as they began, nothing new comes.
act_drain() {
    local bytes=$((6 * 1024 * 1024)) result=0
    step "Draining b2 under 24 long downloads (weir ctl drain b2 --seconds 20 --wait)"
    start_downloads 24 1m "$bytes"
    ctl drain b2 --seconds 20 --wait || result=1
    download_results "$bytes" || result=1
    state_is b2 EVICTED || result=1
    send_requests 100 "$DIRECTORY/answers.drain"
    if grep -q ' b2$' "$DIRECTORY/answers.drain"; then result=1; fi
    printf '100 requests after it, %d of them to b2\n\n' "$(grep -c ' b2$' "$DIRECTORY/answers.drain" || true)"
    return "$result"
}

# The control plane goes away and comes back: nobody notices.
act_restart() {
    step "Killing the controller (kill -9) under a steady trickle of requests, and starting it again"
    start_trickle "$DIRECTORY/trickle.restart"
    sleep 1
    stop controller1 KILL
    sleep 4
    start_controller 1
    must_come controller1 30 "leader that answers" ctl status
    sleep 3
    stop_trickle
    report_trickle restart
}

# report_trickle NAME
report_trickle() {
    local file=$DIRECTORY/trickle.$1
    printf '%d requests meanwhile, %d failed\n\n' "$(requests "$file")" "$(failures "$file")"
    (($(failures "$file") == 0))
}

leader() { ctl status --json | jq -r '.leader // .leader_name // empty' | grep -o 'controller-[0-9]\|198\.51\.100\.[0-9]' | grep -o '[0-9]$' | head -n 1; }

# The leader dies; another takes over, with all that was acknowledged.
act_leader() {
    local first second
    first=$(leader)
    step "Killing the controller that leads (controller $first) under a steady trickle of requests"
    start_trickle "$DIRECTORY/trickle.leader"
    sleep 1
    stop "controller$first" KILL
    wait_for 30 "another leader" another_leads "$first" || { stop_trickle; return 1; }
    second=$(leader)
    say "controller $second leads; changing a weight through it"
    show_command backend update b3 --weight 50
    sleep 3
    stop_trickle
    ctl fleet
    report_trickle leader
}
another_leads() { [[ $(leader) =~ ^[0-9]$ && $(leader) != "$1" ]]; }

# A node dies behind the router: its flows go on through the others.
act_node() {
    local bytes=$((8 * 1024 * 1024)) result=0
    step "Killing node2 (kill -9) under 24 long downloads; the router then leaves it out"
    start_downloads 24 1m "$bytes"
    stop node2 KILL
    lab route "$LAB" 1 3
    download_results "$bytes" || result=1
    printf '\n'
    return "$result"
}
