# NATS JetStream's part of bench/log/run.
nats_ports=$((port + 41)),$((port + 42)),$((port + 43))
nats_sync=no
nats_up() { # streams
    local i
    rm -rf "$work/nats" && mkdir -p "$work/nats"
    for i in 1 2 3; do
        mkdir -p "$work/nats/n$i"
        [ "$nats_sync" = no ] || chattr +S "$work/nats/n$i"
        cat >"$work/nats$i.conf" <<EOC
server_name: n$i
host: 127.0.0.1
port: $((port + 40 + i))
jetstream { store_dir: "$work/nats/n$i" }
cluster {
  name: bench, host: 127.0.0.1, port: $((port + 50 + i))
  routes: [ "nats://127.0.0.1:$((port + 51))", "nats://127.0.0.1:$((port + 52))", "nats://127.0.0.1:$((port + 53))" ]
}
EOC
        nats-server -c "$work/nats$i.conf" >"$work/nats$i.log" 2>&1 &
        pids[$((i - 1))]=$!
    done
    sleep 2 # its meta group forms; create waits for the rest
    "$bin/bench/log/nats_load" create "$nats_ports" "$1"
}
nats_run() { # name records
    local a b json
    nats_up "$parts"
    a=$(cpu_of "${pids[@]}")
    json=$("$bin/bench/log/nats_load" load "$nats_ports" "$parts" "$2" "$size" "$window")
    b=$(cpu_of "${pids[@]}")
    show "log.$1.s$parts.b$size.w$window" "$json" "$a" "$b"
    stop_all
}
nats_case() { nats_run nats_js_r3 "$n"; }
nats_sync_case() {
    nats_sync=yes
    nats_run nats_js_r3_sync "$n_sync"
    nats_sync=no
}
nats_consume() {
    nats_up 1
    show_consume log.nats_js_r3 "$("$bin/bench/log/nats_load" consume "$nats_ports" 10000 "$consume_s")"
    stop_all
}
nats_failover() {
    local k gaps=() json
    for k in $(seq "$nats_failovers"); do
        nats_up 1
        json=$("$bin/bench/log/nats_load" failover "$nats_ports" 2000 24 "$(IFS=,; echo "${pids[*]}")" 2>/dev/null || true)
        gaps+=("$(field longest_ack_gap_ms <<<"$json")")
        echo "log.nats_js_r3.failover.kill.run$k.longest_ack_gap ${gaps[-1]} ms"
        stop_all 2>/dev/null
    done
    show_gaps log.nats_js_r3.failover.kill "${gaps[@]}"
}
nats_all() {
    each_case nats_case
    mkdir -p "$work/probe"
    if chattr +S "$work/probe" 2>/dev/null; then
        each_case nats_sync_case
    else
        echo "# no figures of the synchronous JetStream: this file system has no chattr +S"
    fi
    nats_consume
    [ "$nats_failovers" -eq 0 ] || [ "$fault" != kill ] || nats_failover
}
