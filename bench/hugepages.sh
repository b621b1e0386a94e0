# shellcheck shell=bash
# Hugepages for a benchmark: reserved when too few are free, and given back. Sourced, with `root`
# set to the repository and a function `die`.

pages=/proc/sys/vm/nr_hugepages
# shellcheck disable=SC2154  # the sourcing script's
reserve=$root/scripts/hugepages.sh
before= # pages there were, once more have been asked for

give_back() {
    [[ -n $before ]] || return 0
    if [[ -x $reserve ]]; then
        "$reserve" --release >/dev/null || true
    else
        echo "$before" >"$pages" || true
    fi
}

# get_hugepages MIB: free hugepages for that much, or no benchmark.
get_hugepages() {
    local mib=$1 free
    free=$(awk '/^HugePages_Free/ { free = $2 } /^Hugepagesize/ { print int(free * $2 / 1024) }' /proc/meminfo)
    ((free < mib)) || return 0
    if [[ -x $reserve ]]; then
        # What it reserved for others before stays theirs: it returns all or nothing.
        local others=0
        [[ ! -s /run/weir-hugepages ]] || read -r others _ </run/weir-hugepages
        ((others > 0)) || before=$(cat "$pages")
        "$reserve" "$mib" >&2 || die "no $mib MiB of hugepages: the benchmark cannot run"
        return 0
    fi
    before=$(cat "$pages")
    echo $((before + (mib - free + 1) / 2)) >"$pages" || die "$pages is not writable"
    free=$(awk '/^HugePages_Free/ { print $2 * 2 }' /proc/meminfo)
    ((free >= mib)) ||
        die "wanted $mib MiB of hugepages, the kernel has $free: the benchmark cannot run"
}
