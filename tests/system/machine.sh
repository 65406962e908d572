#!/bin/sh
# Boots a throw-away machine from the root directory ROOT and ends it when standard input closes,
# so that it never outlives the tests, however they end. Files that the machine writes are lost.
# Usage: machine.sh ROOT
set -eu
root=$1

# A control group of its own: machines that run at the same time share nothing, and no process can leave
# it.
group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/codex-network-proxy-test-$$
mkdir "$group"
end() {
    echo 1 >"$group/cgroup.kill"
    wait
    # Processes take a moment to end, and a group can be removed only when it is empty.
    tries=0
    until find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$tries" -ge 100 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}
trap end EXIT

# Landlock and the service manager's address filters are beyond what nspawn lets through by default.
(
    echo 0 >"$group/cgroup.procs"
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn --directory="$root" --volatile=overlay \
        --boot --machine="codex-network-proxy-test-$$" --register=no --keep-unit --private-network \
        --console=pipe \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self bpf"
) </dev/null &
cat >/dev/null
