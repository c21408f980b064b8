# Shared by ./dev and tools/dev/*.sh; sourced with the checkout's top as the working directory.

die() {
    echo "dev: $*" >&2
    exit 1
}

# Debian 12 packages by purpose: what an empty machine lacks for it.
declare -A PACKAGES=(
    [build]="ca-certificates gcc libc6-dev cmake ninja-build pkg-config nodejs npm
        libuv1-dev libraft-dev libprotobuf-c-dev protobuf-c-compiler librocksdb-dev libwebsockets-dev
        libssl-dev libnghttp2-dev libjansson-dev libsodium-dev libseccomp-dev libcmocka-dev
        libavformat-dev libavcodec-dev libavfilter-dev libavutil-dev libswscale-dev
        libswresample-dev"
    [run]="curl ffmpeg fonts-dejavu-core procps iproute2"
    [lint]="clang-format"
    [fuzz]="clang libclang-rt-14-dev"
    [analyse]="clang-tidy cppcheck"
    [e2e]="curl ffmpeg fonts-dejavu-core procps iproute2 chromium e2fsprogs mount"
    [jepsen]="iptables e2fsprogs iproute2 mount util-linux ffmpeg strace faketime libnetfilter-queue-dev"
    [bench]="iptables e2fsprogs iproute2 nginx libnginx-mod-rtmp libnginx-mod-nchan nats-server chromium"
)

# packages_need PURPOSE...: installs what dpkg does not know as installed; silent when there is nothing.
packages_need() {
    local want=() missing=() p state
    for p in "$@"; do
        read -r -d '' -a list <<<"${PACKAGES[$p]}" || true
        want+=("${list[@]}")
    done
    for p in "${want[@]}"; do
        # A machine may have Node and npm from elsewhere: the program is what counts.
        case $p in nodejs) command -v node >/dev/null && continue ;; npm) command -v npm >/dev/null && continue ;; esac
        state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
        [[ $state == installed* ]] || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing packages (no apt-get here): ${missing[*]}"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "run as root once, or install: ${missing[*]}"
        root=(sudo)
    fi
    echo "dev: installing ${missing[*]}" >&2
    # A package list may be stale or absent: refresh it only when installing as it is fails.
    local install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq
        --no-install-recommends "${missing[@]}")
    local log
    log=$(mktemp)
    if ! "${install[@]}" >"$log" 2>&1; then
        "${root[@]}" apt-get update -qq >>"$log" 2>&1 || true
        if ! "${install[@]}" >>"$log" 2>&1; then
            tail -n 30 "$log" >&2
            rm -f "$log"
            die "apt-get install failed"
        fi
    fi
    rm -f "$log"
}

jobs_max() {
    local n
    n=$(nproc)
    echo $((n < 2 ? 1 : n))
}

# configure_c DIR CMAKE_ARG..., build_c DIR CMAKE_ARG...: a build folder; then what changed is built.
configure_c() {
    local dir=$1 cache=()
    shift
    if command -v ccache >/dev/null; then cache=(-DCMAKE_C_COMPILER_LAUNCHER=ccache); fi
    cmake -S . -B "$dir" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "${cache[@]}" "$@" >/dev/null
}

build_c() {
    configure_c "$@"
    local dir=$1
    ninja -C "$dir" --quiet -j "${WEIR_JOBS:-$(jobs_max)}"
}

# npm_ready DIR: its node_modules as package-lock.json says; npm only runs when the lock changed.
npm_ready() {
    local dir=$1 stamp=$1/node_modules/.lock-installed
    if ! cmp -s "$dir/package-lock.json" "$stamp"; then
        (cd "$dir" && npm ci --no-audit --no-fund --loglevel=error)
        cp "$dir/package-lock.json" "$stamp"
    fi
}

# The page is rebuilt only when a source is newer than what was built.
build_page() {
    local dist=clients/web/dist/index.html
    npm_ready clients/web
    if [ ! -f $dist ] || [ -n "$(find clients/web -newer $dist -type f \
        -not -path '*/node_modules/*' -not -path '*/dist/*' -print -quit)" ]; then
        (cd clients/web && npm run --silent build -- --logLevel warn)
        touch $dist
    fi
}

# Our C sources; a folder that does not exist yet has none.
c_files() {
    local dirs=() d
    for d in base net proto log consensus media views nodes clients jepsen tests bench; do
        [ ! -d $d ] || dirs+=($d)
    done
    find "${dirs[@]}" -name node_modules -prune -o -name '*.[ch]' -print | sort
}
