# What many groups cost: three nodes with 16, 256 and 1,024 partitions, idle and with one producer writing to all of them. BENCH_SHARDS: numbers of
# shards of a node, in turn (1). BENCH_GROUPS: partitions.
groups_config() { # partitions, shards
    weir_config
    local i
    for i in 1 2 3; do
        sed -i '/^log\.topic\|^log\.segment_mib/d' "$work/n$i.conf"
        printf 'log.segment_mib = 1\nlog.topic = many partitions=%s\nlog.topic = groups partitions=1\nlog.topic = meta partitions=1\nlog.shards = %s\n' "$1" "$2" >>"$work/n$i.conf"
    done
}
groups_rss() {
    local p sum=0
    for p in "${pids[@]}"; do sum=$((sum + $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$p/status"))); done
    echo $((sum / 3))
}
groups_case() { # partitions, shards
    local a b json name=log.weir_r3.groups$1
    [ "$2" = 1 ] || name=$name.shards$2
    groups_config "$1" "$2"
    for i in 1 2 3; do weir_node "$i"; done
    weir_ready
    sleep 3 # elections are over
    a=$(cpu_of "${pids[@]}")
    sleep "$consume_s"
    b=$(cpu_of "${pids[@]}")
    awk -v n="$name" -v a="$a" -v b="$b" -v s="$consume_s" 'BEGIN { printf "%s.idle_core_per_node %.2f %%\n", n, (b - a) / s / 3 * 100 }'
    echo "$name.idle_rss_per_node $(groups_rss) KiB"
    a=$(cpu_of "${pids[@]}")
    json=$("$bin/weir" log produce many --records "$records" --size 100 --window 8192 --json)
    b=$(cpu_of "${pids[@]}")
    show "$name.b100.w8192" "$json" "$a" "$b"
    echo "$name.busy_rss_per_node $(groups_rss) KiB"
    stop_all
    rm -rf "$work/weir"
}
groups_all() {
    local k s
    for k in ${BENCH_GROUPS:-16 256 1024}; do
        for s in ${BENCH_SHARDS:-1}; do groups_case "$k" "$s"; done
    done
}
