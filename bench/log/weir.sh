# Weir's part of bench/log/run.
weir_host() { # index
    if [ "$fault" = cut ]; then echo "$subnet.$1"; else echo 127.0.0.1; fi
}
weir_config() {
    local i k h
    for i in 1 2 3; do
        {
            echo "node.name = n$i"
            echo "node.data = $work/weir/n$i"
            echo "node.roles = log"
            echo "cluster.secret = only for this benchmark"
            echo "tls.plain = yes"
            for k in 1 2 3; do
                h=$(weir_host $k)
                echo "cluster.node = n$k id=$k peer=$h:$((port + k)) broker=$h:$((port + 10 + k)) http=$h:$((port + 20 + k)) rtmp=$h:$((port + 30 + k))"
            done
            echo "log.topic = s16 partitions=16"
            echo "log.topic = s1 partitions=1"
            echo "log.topic = gap partitions=1"
            echo "log.segment_mib = 32"
            echo "logging.level = warn"
            echo "${BENCH_WEIR_CONF:-}"
        } >"$work/n$i.conf"
    done
    echo "only for this benchmark" >"$work/secret"
    export WEIR_CONFIG=$work/n1.conf
}
weir_node() { # index
    local in=()
    [ "$fault" != cut ] || in=(ip netns exec "weirb$1")
    "${in[@]}" "$bin/weir" node --config "$work/n$1.conf" >>"$work/n$1.log" 2>&1 &
    pids[$(($1 - 1))]=$!
}
weir_ready() {
    local i
    for i in $(seq 200); do
        "$bin/weir" cluster status >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    tail -n 3 "$work"/n?.log >&2
    return 1
}
weir_case() {
    local a b json
    a=$(cpu_of "${pids[@]}")
    json=$("$bin/weir" log produce "s$parts" --records "$n" --size "$size" --window "$window" --json)
    b=$(cpu_of "${pids[@]}")
    show "log.weir_r3.s$parts.b$size.w$window" "$json" "$a" "$b"
}
weir_leader() { "$bin/weir" cluster status | sed -n "s/^$1-0 *leader n\([0-9]\).*/\1/p"; } # topic
# From produce to a consumer, at 10,000 records a second: one that reads from the leader, one from another node.
weir_consume() {
    local leader seeds k
    leader=$(weir_leader s1)
    for k in "$leader" $((leader % 3 + 1)); do
        seeds=$(weir_host "$k"):$((port + 10 + k)),$(weir_host $((k % 3 + 1))):$((port + 10 + k % 3 + 1))
        show_consume "log.weir_r3$([ "$k" = "$leader" ] || echo .from_follower)" \
            "$("$bin/bench/log/latency" s1 10000 "$consume_s" "$seeds" "$work/secret")"
    done
}
weir_harm() { # index
    case $fault in
    kill)
        disown "${pids[$(($1 - 1))]}" # its death is no news to the shell
        kill -9 "${pids[$(($1 - 1))]}"
        ;;
    pause) kill -STOP "${pids[$(($1 - 1))]}" ;;
    cut) net_cut "$1" ;;
    esac
}
weir_mend() { # index
    case $fault in
    kill) weir_node "$1" 2>/dev/null ;;
    pause) kill -CONT "${pids[$(($1 - 1))]}" ;;
    cut) net_heal "$1" ;;
    esac
}
# A leader is harmed at 2,000 records a second: the longest time without an acknowledgement; what was acknowledged and is lost; what is there
# twice (each value begins with a number of its own, from 2^40 on).
weir_failover() {
    local k leader json pid gaps=()
    for k in $(seq "$failovers"); do
        leader=$(weir_leader gap)
        "$bin/weir" log produce gap --seconds 4 --rate 2000 --window 20000 --first $((k << 40)) --ack-log "$work/acks.$k" --json \
            >"$work/failover.json" 2>>"$work/failover.log" &
        pid=$!
        sleep 1.5
        weir_harm "$leader"
        wait "$pid" || true # records whose outcome is unknown are told by the status
        json=$(cat "$work/failover.json")
        gaps+=("$(field longest_ack_gap_ms <<<"$json")")
        echo "log.weir_r3.failover.$fault.run$k.longest_ack_gap ${gaps[-1]} ms"
        weir_mend "$leader"
        sleep 1
        weir_ready
    done
    show_gaps "log.weir_r3.failover.$fault" "${gaps[@]}"
    sort "$work"/acks.* >"$work/acked"
    "$bin/weir" log consume gap --format crc | sort >"$work/stored"
    echo "log.weir_r3.failover.$fault.acked $(wc -l <"$work/acked") records"
    echo "log.weir_r3.failover.$fault.doubled $("$bin/weir" log consume gap --format value | cut -c1-16 | sort | uniq -d | wc -l) records"
    echo "log.weir_r3.failover.$fault.lost_acked $(comm -23 "$work/acked" "$work/stored" | wc -l) records"
}
weir_all() {
    local i p rss=0
    [ "$fault" != cut ] || net_up
    weir_config
    for i in 1 2 3; do weir_node "$i"; done
    weir_ready
    "$bin/weir" log produce s16 --records 50000 --window 8192 >/dev/null # warm
    if [ "$only_failover" = no ]; then
        each_case weir_case
        weir_consume
        for p in "${pids[@]}"; do
            rss=$((rss + $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$p/status")))
        done
        echo "log.weir_r3.rss $((rss / 1024)) MiB"
    fi
    [ "$failovers" -eq 0 ] || weir_failover
    "$bin/weir" log verify | tail -n 1 | sed 's/^/# verify: /'
    stop_all
    rm -rf "$work/weir"
}
