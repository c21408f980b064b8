# The cluster of ./dev up: where its files are, and how its processes start and end. Sourced after common.sh.

UP=build/up
UP_JSON=build/up.json
NODES="n1 n2 n3"
WEIR=build/weir
DEMO_USER=demo
DEMO_CHANNEL=demo

# A pid file holds "pid start-time": a pid that was given to another process since is not ours.
start_time() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; }

runs() {
    local pid started
    [ -f "$UP/$1.pid" ] || return 1
    read -r pid started <"$UP/$1.pid" || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]
}

pid_of() { cut -d' ' -f1 "$UP/$1.pid"; }

any_node_runs() {
    local n
    for n in $NODES; do runs "$n" && return 0; done
    return 1
}

# spawn NAME COMMAND...: in a session of its own, output to build/up/NAME.log.
spawn() {
    local name=$1 pid
    shift
    setsid "$@" >>"$UP/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$UP/$name.pid"
}

# TERM, 10 s to finish, then KILL; the whole session, which for the stream holds its ffmpeg.
stop() {
    local pid i
    pid=$(pid_of "$1")
    kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || return 0
    for i in $(seq 100); do
        runs "$1" || return 0
        [ "$(awk '{print $3}' "/proc/$pid/stat" 2>/dev/null)" != Z ] || return 0
        sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
}

port_free() { ! ss -Hltn "sport = :$1" | grep -q .; }

ports_free() {
    local base i
    for base in "$@"; do
        for i in 0 1 2; do port_free $((base + i)) || return 1; done
    done
}

# The usual ports, or the same ones some hundreds higher when another program has them.
choose_ports() {
    local shift
    for shift in 0 100 200 300 400 500; do
        HTTP=$((${WEIR_UP_HTTP:-8081} + shift))
        RTMP=$((${WEIR_UP_RTMP:-1935} + shift))
        BROKER=$((${WEIR_UP_BROKER:-7201} + shift * 10))
        PEER=$((${WEIR_UP_PEER:-7101} + shift * 10))
        if ports_free $HTTP $RTMP $BROKER $PEER; then
            [ $shift = 0 ] || echo "up: usual ports are taken, using those $shift higher" >&2
            printf 'HTTP=%s\nRTMP=%s\nBROKER=%s\nPEER=%s\n' $HTTP $RTMP $BROKER $PEER >"$UP/ports"
            return
        fi
    done
    die "no free ports from WEIR_UP_HTTP=8081, WEIR_UP_RTMP=1935, WEIR_UP_BROKER=7201, WEIR_UP_PEER=7101 on"
}

# port BASE NODE: n1 has the base, n2 the next, ...
port() { echo $((${!1} + ${2#n} - 1)); }

write_configs() {
    local n m
    [ -f "$UP/secret" ] || (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' '-_' >"$UP/secret")
    for n in $NODES; do
        mkdir -p "$UP/$n"
        {
            echo "# Written by ./dev up."
            echo "node.name = $n"
            echo "node.data = $PWD/$UP/$n/data"
            echo "node.web = $PWD/clients/web/dist"
            echo "cluster.secret = $(cat "$UP/secret")"
            # Reserved for each of some forty partitions of each node: small, for a machine that does other things too.
            echo "log.segment_mib = 8"
            # The usual topics, and one to try things on: build/weir log produce bench
            printf 'log.topic = %s\n' "chat partitions=8" "lifecycle partitions=8" "ledger partitions=4" \
                "accounts partitions=1" "meta partitions=1" "bench partitions=16"
            for m in $NODES; do
                echo "cluster.node = $m id=${m#n} peer=127.0.0.1:$(port PEER "$m")" \
                    "broker=127.0.0.1:$(port BROKER "$m") http=127.0.0.1:$(port HTTP "$m")" \
                    "rtmp=127.0.0.1:$(port RTMP "$m")"
            done
        } >"$UP/$n/weir.conf"
        chmod 600 "$UP/$n/weir.conf"
    done
}

node_start() {
    runs "$1" || spawn "$1" "$WEIR" node --config "$UP/$1/weir.conf"
}

node_wait() {
    local url i
    . "$UP/ports"
    url=http://127.0.0.1:$(port HTTP "$1")/healthz
    for i in $(seq 300); do
        if curl -fs -m 2 -o /dev/null "$url"; then return; fi
        if ! runs "$1"; then
            tail -n 15 "$UP/$1.log" >&2
            die "node $1 ended; its log is $UP/$1.log"
        fi
        sleep 0.1
    done
    tail -n 15 "$UP/$1.log" >&2
    die "node $1 is not healthy after 30 s ($url); its log is $UP/$1.log"
}

cli() { "$WEIR" "$@" --config "$UP/n1/weir.conf"; }

# Secrets are shown once, when they are made: build/up/demo keeps them for the next time.
demo_accounts() {
    if [ -f "$UP/demo" ]; then return; fi
    local token key
    cli user create $DEMO_USER --display-name Demo >/dev/null
    cli channel create $DEMO_CHANNEL --owner $DEMO_USER --title "Weir demo" >/dev/null
    token=$(cli user token $DEMO_USER)
    key=$(cli channel key $DEMO_CHANNEL)
    (umask 077 && printf 'TOKEN=%s\nKEY=%s\n' "$token" "$key" >"$UP/demo")
}

demo_stream_start() {
    . "$UP/ports"
    . "$UP/demo"
    local n urls=()
    for n in $NODES; do urls+=("rtmp://127.0.0.1:$(port RTMP "$n")/live"); done
    runs demo-stream || WEIR_STREAM_KEY=$KEY spawn demo-stream tools/dev/demo-stream.sh "${urls[@]}"
}

write_up_json() {
    . "$UP/ports"
    . "$UP/demo"
    local n nodes=()
    for n in $NODES; do
        nodes+=("$(printf '{"name":"%s","pid":%s,"http":"http://127.0.0.1:%s","rtmp":"rtmp://127.0.0.1:%s/live","broker":"127.0.0.1:%s"}' \
            "$n" "$(pid_of "$n")" "$(port HTTP "$n")" "$(port RTMP "$n")" "$(port BROKER "$n")")")
    done
    (umask 077 && printf '{"nodes":[%s],"demo":{"channel":"%s","stream_key":"%s","user":"%s","token":"%s"}}\n' \
        "$(IFS=,; echo "${nodes[*]}")" $DEMO_CHANNEL "$KEY" $DEMO_USER "$TOKEN" >$UP_JSON)
}

print_addresses() {
    . "$UP/ports"
    . "$UP/demo"
    local n
    echo
    echo "Weir is up: three nodes, one cluster."
    echo
    for n in $NODES; do
        echo "  page on $n    http://127.0.0.1:$(port HTTP "$n")/   (watch: /$DEMO_CHANNEL)"
    done
    echo
    echo "  OBS server    rtmp://127.0.0.1:$RTMP/live   ($((RTMP + 1)) and $((RTMP + 2)) too)"
    echo "  stream key    $KEY"
    echo "  chat token    $TOKEN   (log in on the page as $DEMO_USER)"
    echo
    echo "  the log       $WEIR log consume lifecycle --follow --config $UP/n1/weir.conf"
    echo "  the cluster   $WEIR cluster status --config $UP/n1/weir.conf"
    echo "  to stop       ./dev down"
}
