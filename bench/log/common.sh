# Shared by the parts of bench/log/run: processes, CPU, figures, network namespaces.
bin=${BENCH_BIN:-$top/build}
work=${BENCH_WORK:-$top/build/bench/log-work}
port=${BENCH_PORT:-29100}
pids=()
declare -A rate p99

stop_all() {
    local p
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
    for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
    pids=()
}
# Seconds of CPU, user and system, of the given processes.
cpu_of() {
    local t=0 p s
    for p in "$@"; do
        s=$(sed 's/.*) //' "/proc/$p/stat" 2>/dev/null | awk '{print $12 + $13}')
        t=$((t + ${s:-0}))
    done
    awk -v t="$t" -v h="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", t / h }'
}
field() { sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"; }
# show NAME JSON CPU-BEFORE CPU-AFTER: the figures of one run
show() {
    local name=$1 json=$2 acked
    acked=$(field acked <<<"$json")
    rate[$name]=$(field records_per_s <<<"$json")
    p99[$name]=$(field ack_p99_ms <<<"$json")
    echo "$name.acked ${rate[$name]} records/s"
    echo "$name.ack_p50 $(field ack_p50_ms <<<"$json") ms"
    echo "$name.ack_p99 ${p99[$name]} ms"
    echo "$name.ack_p999 $(field ack_p999_ms <<<"$json") ms"
    awk -v n="$name" -v a="$3" -v b="$4" -v k="$acked" \
        'BEGIN { if (k > 0) printf "%s.server_cpu_per_M %.2f s\n", n, (b - a) * 1e6 / k }'
}
show_consume() { # NAME JSON
    echo "$1.consume_p50 $(field consume_p50_ms <<<"$2") ms"
    echo "$1.consume_p99 $(field consume_p99_ms <<<"$2") ms"
}
# show_gaps NAME GAP...: median and worst of milliseconds
show_gaps() {
    local name=$1
    shift
    printf '%s\n' "$@" | sort -n | awk -v n="$name" '{ v[NR] = $1 } END {
        printf "%s.longest_ack_gap_median %.1f ms\n%s.longest_ack_gap_worst %.1f ms\n", n, v[int((NR + 1) / 2)], n, v[NR] }'
}
# each_case FUNCTION: with parts, size, window, n (records) and n_sync set
each_case() {
    local c share share_sync
    for c in $cases; do
        IFS=: read -r parts size window share share_sync <<<"$c"
        n=$(awk -v r="$records" -v s="$share" 'BEGIN { printf "%d", r * s }')
        n_sync=$(awk -v r="$records" -v s="$share_sync" 'BEGIN { printf "%d", r * s }')
        "$1"
    done
}
ratio() {
    local w=log.weir_r3.s$parts.b$size.w$window peer
    for peer in nats_js_r3 nats_js_r3_sync; do
        local j=log.$peer.s$parts.b$size.w$window
        [ -n "${rate[$j]:-}" ] || continue
        awk -v n="$w" -v p="$peer" -v a="${rate[$w]}" -v b="${rate[$j]}" -v c="${p99[$w]}" -v d="${p99[$j]}" 'BEGIN {
            printf "%s.rate_vs_%s %.2f x\n%s.p99_vs_%s %.2f x\n", n, p, a / b, n, p, c / d }'
    done
}

# --- Hosts: three network namespaces on one bridge, when links are to be cut ---
subnet=10.77.91
net_up() {
    local i
    ip link add weirb0 type bridge
    ip addr add "$subnet.254/24" dev weirb0
    ip link set weirb0 up
    for i in 1 2 3; do
        ip netns add "weirb$i"
        ip link add "weirb$i" type veth peer name eth0 netns "weirb$i"
        ip link set "weirb$i" master weirb0 up
        ip -n "weirb$i" addr add "$subnet.$i/24" dev eth0
        ip -n "weirb$i" link set eth0 up
        ip -n "weirb$i" link set lo up
    done
    echo 0 2>/dev/null >/proc/sys/net/bridge/bridge-nf-call-iptables || true
}
net_down() {
    local i
    [ "${fault:-}" = cut ] || return 0
    for i in 1 2 3; do ip netns del "weirb$i" 2>/dev/null || true; done
    ip link del weirb0 2>/dev/null || true
}
# The other two nodes' packets, both ways; clients still reach it.
net_cut() { # index
    local k
    for k in 1 2 3; do
        [ "$k" = "$1" ] && continue
        ip netns exec "weirb$1" iptables -A INPUT -s "$subnet.$k" -j DROP
        ip netns exec "weirb$1" iptables -A OUTPUT -d "$subnet.$k" -j DROP
    done
}
net_heal() { ip netns exec "weirb$1" iptables -F; }
