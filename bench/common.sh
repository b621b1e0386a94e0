# shellcheck shell=bash
# What the benchmarks of the packet path begin with: messages, the build, hugepages. Sourced first.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# shellcheck disable=SC2034  # the sourcing script's
bench=$target/release/weir-bench

die() {
    printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

# The comment at the head of the script that was called.
usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
}

# bad_usage: says how it is called, and ends.
bad_usage() {
    usage >&2
    exit 2
}

needs_root() {
    ((EUID == 0)) || die "needs root (DPDK, hugepages)"
}

# needs_cores NUMBER
needs_cores() {
    (($(nproc) >= $1)) || die "needs $1 cores"
}

# needs_command COMMAND PACKAGE
needs_command() {
    command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2"
}

build_bench() {
    command -v cargo >/dev/null || die "cargo is missing: see README.md"
    printf 'building ...\n' >&2
    cargo build --manifest-path "$root/Cargo.toml" --release --quiet -p bench --bin weir-bench
}

# shellcheck source=bench/hugepages.sh
source "$root/bench/hugepages.sh"
