#!/usr/bin/env bash
# Hugepages of 2 MiB for DPDK, reserved at run time.
#
#   scripts/hugepages.sh [MIB]       makes MIB (640 by default) free for use, and mounts
#                                    /dev/hugepages if no such file system is mounted
#   scripts/hugepages.sh --show      what there is
#   scripts/hugepages.sh --release   returns what this script has reserved and mounted
#
# Exit code 1 when the kernel does not grant them; callers then run on ordinary pages
# (`hugepages = false` in the configuration). Running it again reserves no more than is
# missing. For good, write vm.nr_hugepages to /etc/sysctl.d instead (docs say how many).
set -euo pipefail
# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

POOL=/sys/kernel/mm/hugepages/hugepages-2048kB
MOUNT=/dev/hugepages
STATE=/run/weir-hugepages # one line: "PAGES MOUNTED", what this script has added so far
DEFAULT_MIB=640           # the configuration's 512, and some for page-sized remainders

total_pages() { cat "$POOL/nr_hugepages"; }
free_pages() { cat "$POOL/free_hugepages"; }

# Where a file system of 2 MiB hugepages is mounted; DPDK finds it the same way.
mounted_at() {
    awk '$3 == "hugetlbfs" && $4 ~ /pagesize=2M/ { print $2; exit }' /proc/mounts
}

show() {
    local where
    where=$(mounted_at)
    printf '2 MiB hugepages: %s MiB reserved, %s MiB free, %s\n' \
        $(($(total_pages) * 2)) $(($(free_pages) * 2)) "${where:+mounted at }${where:-not mounted}"
}

# remember PAGES MOUNTED: adds to what --release will return.
remember() {
    local pages=0 mounted=no
    [[ ! -s $STATE ]] || read -r pages mounted <"$STATE"
    [[ $2 == no ]] || mounted=yes
    printf '%s %s\n' $((pages + $1)) "$mounted" >"$STATE"
}

reserve() {
    local wanted=$((($1 + 1) / 2)) free before after
    free=$(free_pages)
    if ((free < wanted)); then
        before=$(total_pages)
        # Huge pages need memory in one piece: join the small ones first.
        echo 1 >/proc/sys/vm/compact_memory 2>/dev/null || true
        echo $((before + wanted - free)) >"$POOL/nr_hugepages" 2>/dev/null ||
            die "the kernel does not let us reserve hugepages here ($POOL/nr_hugepages is not writable)"
        after=$(total_pages)
        if (($(free_pages) < wanted)); then
            local got
            got=$(free_pages)
            echo "$before" >"$POOL/nr_hugepages"
            die "wanted $((wanted * 2)) MiB of hugepages, the kernel has $((got * 2)): too little or too fragmented memory"
        fi
        remember $((after - before)) no
    fi
    if [[ -z $(mounted_at) ]]; then
        mkdir -p "$MOUNT"
        mount -t hugetlbfs -o pagesize=2M weir "$MOUNT" || die "cannot mount a hugetlbfs at $MOUNT"
        remember 0 yes
    fi
    show
}

release() {
    local pages=0 mounted=no free
    [[ ! -s $STATE ]] || read -r pages mounted <"$STATE"
    # Never more than are free: the others have an owner by now.
    free=$(free_pages)
    ((pages <= free)) || pages=$free
    ((pages == 0)) || echo $(($(total_pages) - pages)) >"$POOL/nr_hugepages"
    if [[ $mounted == yes ]] && ! umount "$MOUNT" 2>/dev/null; then
        warn "$MOUNT is in use and stays mounted"
        printf '0 yes\n' >"$STATE"
    else
        rm -f "$STATE"
    fi
    show
}

main() {
    [[ -d $POOL ]] || die "this kernel has no 2 MiB hugepages"
    case ${1:-$DEFAULT_MIB} in
    --show) show ;;
    --release | [1-9]*)
        [[ ${1:-1} == --release || ${1:-1} =~ ^[0-9]+$ ]] || die "not a number of MiB: $1"
        require_root "reserving hugepages"
        exec 9>"$STATE.lock"
        flock 9 # two labs may start at once
        if [[ ${1:-} == --release ]]; then release; else reserve "${1:-$DEFAULT_MIB}"; fi
        ;;
    *) die "usage: $0 [MIB | --release | --show]" ;;
    esac
}

main "$@"
