# shellcheck shell=bash
# shellcheck disable=SC2154  # the settings are those of demo.sh
# The demo's clients: many short requests, a steady trickle of them, long downloads. Sourced by
# demo.sh. Every request has a connection of its own, so a flow of its own.

# send_requests NUMBER FILE: one line a request, status and backend.
send_requests() {
    # In the background, as bash looks at signals while it waits, and not while a program runs.
    request_all "$1" | tee "$2" | awk '{ n++ } n % 200 == 0 { print "    " n; fflush() }' >&2 &
    wait $! || true
}

request_all() {
    on client curl --silent --no-progress-meter --parallel --parallel-max 8 --max-time 10 \
        --header 'Connection: close' --output /dev/null \
        --write-out '%{http_code} %header{x-backend}\n' "http://$VIP/?request=[1-$1]" || true
}

# print_shares FILE NUMBER: who answered; returns 1 when a request failed.
print_shares() {
    local failed
    failed=$(($2 - $(grep -c '^200 b[0-9]' "$1" || true)))
    printf '%d requests, %d failed\n\n' "$2" "$failed"
    printf '%-10s %9s %7s\n' backend requests share
    local i answered
    for ((i = 1; i <= backends; i++)); do
        answered=$(grep -c "^200 b$i\$" "$1" || true)
        printf 'b%-9d %9d %6d%%\n' "$i" "$answered" $((answered * 100 / $2))
    done
    printf '\n'
    ((failed == 0))
}

# start_trickle FILE: a request every 50 ms until stop_trickle; a line each: when it began, in
# milliseconds, status, backend.
start_trickle() {
    : >"$1"
    # shellcheck disable=SC2016  # for the inner shell
    setsid "$here/lab.sh" exec "$LAB" client bash -c '
        while :; do
            began=$(date +%s%3N)
            answer=$(curl -s -o /dev/null --max-time 2 -H "Connection: close" \
                -w "%{http_code} %header{x-backend}" "http://$1/") || true
            printf "%s %s\n" "$began" "$answer"
            sleep 0.05
        done' trickle "$VIP" >>"$1" 2>/dev/null 9>&- &
    trickle=$!
    disown "$trickle"
}

stop_trickle() {
    [[ -z $trickle ]] || kill -TERM -- "-$trickle" 2>/dev/null || kill "$trickle" 2>/dev/null || true
    trickle=''
}

now_ms() { date +%s%3N; }

# failures FILE [SINCE [UNTIL]]: requests begun between, without an answer.
failures() { awk -v a="${2:-0}" -v b="${3:-9e15}" '$1 >= a && $1 < b && $2 != 200 { n++ } END { print n + 0 }' "$1"; }
requests() { awk -v a="${2:-0}" -v b="${3:-9e15}" '$1 >= a && $1 < b { n++ } END { print n + 0 }' "$1"; }
last_failure() { awk -v a="$2" '$1 >= a && $2 != 200 { t = $1 } END { print (t ? t - a : 0) }' "$1"; }
seconds() { awk -v ms="$1" 'BEGIN { printf "%.1f s", ms / 1000 }'; }

# start_downloads NUMBER RATE BYTES: long ones; download_results waits and prints how many broke.
start_downloads() {
    local i
    downloads=()
    for ((i = 0; i < $1; i++)); do
        setsid "$here/lab.sh" exec "$LAB" client curl -s -o /dev/null --max-time 120 \
            -H "Range: bytes=0-$(($3 - 1))" -w '%{http_code} %{size_download} %header{x-backend}\n' \
            "http://$VIP/slow?rate=$2" >"$DIRECTORY/download$i" 2>/dev/null 9>&- &
        downloads+=($!)
    done
    wait_for 10 "the downloads to be under way" downloads_run "$1"
}

downloads_run() {
    local count
    count=$(on client ss -Htn state established dst "$VIP" | wc -l)
    ((count >= $1))
}

# download_results BYTES: waits for all; prints one line a download that broke; returns 1 if one did.
download_results() {
    local i broken=0
    for i in "${!downloads[@]}"; do
        wait "${downloads[$i]}" || true
        grep -q "^206 $1 " "$DIRECTORY/download$i" || broken=$((broken + 1))
    done
    printf '%d long downloads, %d broken\n' "${#downloads[@]}" "$broken"
    ((broken == 0))
}
