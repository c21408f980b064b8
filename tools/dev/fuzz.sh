#!/bin/bash
# fuzz.sh [NAME|all [SECONDS]]: libFuzzer with ASan and UBSan on the parsers; new inputs are kept in build-fuzz/corpus.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/dev/common.sh
name=${1:-all}
seconds=${2:-60}

# Warnings are judged by GCC, in the other builds.
CC=clang configure_c build-fuzz -DWEIR_FUZZ=ON -DWEIR_ASAN=ON -DWEIR_WERROR=OFF
targets=$(ninja -C build-fuzz -t targets all | sed -n 's/^\(fuzz_[a-z0-9_]*\): phony$/\1/p')
[ -n "$targets" ] || die "no fuzz targets here"
# shellcheck disable=SC2086 # one word a target
if ! ninja -C build-fuzz -j "${WEIR_JOBS:-$(jobs_max)}" $targets >build-fuzz/build.log 2>&1; then
    grep -A 20 '^FAILED' build-fuzz/build.log >&2 || tail -n 30 build-fuzz/build.log >&2
    die "the fuzz targets do not build"
fi
found=$(find build-fuzz -name 'fuzz_*' -type f -perm -u+x | sort)
for bin in $found; do
    target=$(basename "$bin")
    target=${target#fuzz_}
    [ "$name" = all ] || [ "$name" = "$target" ] || continue
    corpus=build-fuzz/corpus/$target
    mkdir -p "$corpus"
    seeds=()
    [ ! -d "tests/fuzz/corpus/$target" ] || seeds=("tests/fuzz/corpus/$target")
    echo "fuzz: $target for $seconds s"
    if ! "$bin" "$corpus" "${seeds[@]}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="build-fuzz/$target-" -verbosity=0 -print_final_stats=0 \
        >"build-fuzz/$target.log" 2>&1; then
        tail -n 60 "build-fuzz/$target.log"
        die "fuzz target $target failed; the input is build-fuzz/$target-*"
    fi
    ran=1
done
[ -n "${ran:-}" ] || die "no fuzz target '$name'"
echo "fuzz: no findings"
