#!/usr/bin/env bash
# Everything that has to hold before a change lands; CI calls this through .ci/run.
#
#   scripts/test.sh
#
# Installs what is missing, then runs each step below, also after one has failed. The last line is
# `N passed, M failed`: the tests of all crates, with each other step that failed counted as one
# more failure. Exit code 0 when nothing failed. As root, as the end-to-end tests need network
# namespaces.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/common.sh
source "$here/common.sh"
cd "$REPOSITORY"

passed=0
failed=0
complaints=()

# check WHAT COMMAND...: a step that holds or does not.
check() {
    local what=$1
    shift
    step "$what"
    "$@" || complain "$what"
}

complain() {
    failed=$((failed + 1))
    complaints+=("$1")
}

# count_tests WHAT COMMAND...: a run of cargo test; adds up its `test result:` lines.
count_tests() {
    local what=$1 log code=0 ok bad
    shift
    step "$what"
    log=$(mktemp)
    "$@" 2>&1 | tee "$log" || code=$?
    read -r ok bad < <(awk '
        /^test result:/ {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") ok += $(i - 1)
                if ($i == "failed;") bad += $(i - 1)
            }
        }
        END { print ok + 0, bad + 0 }' "$log")
    passed=$((passed + ok))
    failed=$((failed + bad))
    while read -r line; do complaints+=("$line"); done < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    # It did not build, or a test ended its whole process.
    ((code == 0 || bad > 0)) || complain "$what"
    rm -f "$log"
}

shell_scripts() {
    find scripts .ci bench -type f \( -name '*.sh' -o -path .ci/run \) -not -path '*/target/*' -print0
}

lint_shell_scripts() { shell_scripts | xargs -0 shellcheck --external-sources; }

"$here/install-deps.sh"
require_cargo
check "Formatting" cargo fmt --all --check
check "Shell scripts" lint_shell_scripts
check "Lints" cargo clippy --workspace --all-targets -- -D warnings
count_tests "Tests" cargo test --workspace --no-fail-fast
# The same publish.rs, under every interleaving that the memory model allows (a workspace of its
# own: see dataplane/loom/Cargo.toml).
count_tests "Publication under loom" env RUSTFLAGS="--cfg crossbeam_loom" \
    CARGO_TARGET_DIR="$(target_directory)/loom" \
    cargo test --release --manifest-path dataplane/loom/Cargo.toml
check "The lab" "$here/lab/selftest.sh"

if ((${#complaints[@]})); then
    step "Failed"
    for complaint in "${complaints[@]}"; do say "$complaint"; done
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
