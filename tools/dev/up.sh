#!/bin/bash
# up.sh [--no-demo-stream]: build, three nodes on this machine, a demo channel and its picture. Safe to run again: what
# runs is kept, what died is started. Everything it makes is in build/up.
#
# Ports: WEIR_UP_HTTP, WEIR_UP_RTMP, WEIR_UP_BROKER, WEIR_UP_PEER are the first node's; the others count up from there.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/dev/common.sh
. tools/dev/cluster.sh

stream=1
for arg in "$@"; do
    case $arg in
    --no-demo-stream) stream=0 ;;
    *) die "up: unknown option '$arg' (there is --no-demo-stream)" ;;
    esac
done

packages_need build run
build_c build -DWEIR_ASAN=OFF -DWEIR_TESTS=OFF
build_page

mkdir -p "$UP"
chmod 700 "$UP"
exec 9>"$UP/lock"
flock -n 9 || die "another ./dev up is at work"

if ! any_node_runs; then
    choose_ports
    write_configs
fi
for n in $NODES; do node_start "$n"; done
for n in $NODES; do node_wait "$n"; done
demo_accounts
write_up_json
if [ $stream = 1 ]; then demo_stream_start; fi
print_addresses
