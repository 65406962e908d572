#!/bin/sh
# Keeps the daemon's contract with the harness (start, log, signals, end) and
# does nothing else, so that the harness is tested without the daemon.
[ "$1" = --config ] || exit 2
if grep -q 'unheard_of' "$2"; then
    echo 'error: unknown key' >&2
    exit 1
fi
say() {
    echo "{\"level\":\"INFO\",\"target\":\"stand_in\",\"fields\":{\"message\":\"$1\"$2}}" >&2
}
listening() {
    say listening ",\"listener\":\"$1\",\"address\":\"127.0.0.1:$2\""
}
env | sed 's/=.*//'
tail -f /dev/null &
idle=$!
trap 'listening http 2001' HUP
trap 'say draining; kill $idle; exit 7' TERM
echo 'a line that is not JSON' >&2
listening http 1001
listening socks5 1002
listening admin 1003
say ready
while kill -0 $idle 2>/dev/null; do
    wait $idle
done
