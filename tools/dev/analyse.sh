#!/bin/bash
# The slow analysers: clang-tidy (bugprone, analyzer) on every C file of ours, and cppcheck.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/dev/common.sh

build_c build -DWEIR_ASAN=OFF -DWEIR_TESTS=OFF
# GCC-only flags in the compile commands would only make clang complain about flags.
c_files | grep '\.c$' | grep -v '^tests/fuzz/' | xargs -P "$(jobs_max)" -n 4 clang-tidy -p build \
    --quiet --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option
cppcheck --project=build/compile_commands.json -i build --enable=warning,portability \
    --inline-suppr --suppress='*:build/*' --error-exitcode=1 --quiet -j "$(jobs_max)"
echo "analyse: clean"
