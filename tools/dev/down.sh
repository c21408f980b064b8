#!/bin/bash
# down.sh: ends the demo stream and the nodes that up.sh started, by their pid files. The data stay in build/up.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/dev/common.sh
. tools/dev/cluster.sh

stopped=0
for what in demo-stream $NODES; do
    if runs "$what"; then
        stop "$what"
        stopped=$((stopped + 1))
    fi
    rm -f "$UP/$what.pid"
done
rm -f "$UP_JSON"
echo "down: $stopped processes ended"
