#!/bin/bash
# The slow analysers: clang-tidy (bugprone, analyzer) on every C file of ours, and cppcheck. A quarter of an hour of one
# processor, half a minute of it for cppcheck.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/dev/common.sh

# Only configured, for the compile commands; what is generated has to be there.
configure_c build-lint -DWEIR_ASAN=ON
ninja -C build-lint --quiet proto/libweir_proto.a
# GCC-only flags in the compile commands would only make clang complain about flags.
c_files | grep '\.c$' | grep -v '^tests/fuzz/' | nice -n 15 xargs -P "$(jobs_max)" -n 4 clang-tidy -p build-lint \
    --quiet --warnings-as-errors='*' --extra-arg=-Wno-error --extra-arg=-Wno-unknown-warning-option
nice -n 15 cppcheck --project=build-lint/compile_commands.json -i build-lint --enable=warning,portability \
    --inline-suppr --suppress='*:build-lint/*' --error-exitcode=1 --quiet -j "$(jobs_max)"
echo "analyse: clean"
