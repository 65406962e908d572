#!/bin/sh
# Removes codex-network-proxy from this Mac. The configuration, the CA and the log stay. --purge removes
# them and the service's user.
set -eu

label=com.openai.codex-network-proxy
user=_codexnetproxy
# Another root, for tests.
root=${CODEX_NETWORK_PROXY_ROOT:-}

purge=no
case "${1:-}" in
'') ;;
--purge) purge=yes ;;
*)
    echo "usage: $0 [--purge]" >&2
    exit 2
    ;;
esac
if [ "$(id -u)" -ne 0 ]; then
    echo "$0: only root can do this; run it with sudo" >&2
    exit 1
fi

launchctl bootout "system/$label.resolver" 2>/dev/null || true
launchctl bootout "system/$label" 2>/dev/null || true

# While the program that knows its installed certificates still exists. Not the one in /usr/local/bin, which
# another user may have put there.
if [ -d "$root/Library/Application Support/codex-network-proxy" ]; then
    "$root/usr/local/libexec/codex-network-proxy/proxyctl" ca uninstall
    rmdir "$root/Library/Application Support/codex-network-proxy" 2>/dev/null || true
fi

# The files in the receipt, and then our own directories if they are empty.
pkgutil --only-files --files "$label" | while IFS= read -r file; do
    rm -f "$root/$file"
done
rm -f "$root/usr/local/libexec/codex-network-proxy/.loaded.plist"
for program in codex-network-proxy proxyctl; do
    bin=$root/usr/local/bin/$program
    if [ "$(readlink "$bin" 2>/dev/null)" = "../libexec/codex-network-proxy/$program" ]; then
        rm -f "$bin"
    fi
done
rmdir "$root/usr/local/libexec/codex-network-proxy" 2>/dev/null || true
pkgutil --forget "$label" >/dev/null

if [ "$purge" = yes ]; then
    rm -rf "$root/private/etc/codex-network-proxy" \
        "$root/private/var/db/codex-network-proxy" \
        "$root/private/var/log/codex-network-proxy.log"
    dscl . -delete "/Users/$user" 2>/dev/null || true
    dscl . -delete "/Groups/$user" 2>/dev/null || true
else
    rmdir "$root/private/etc/codex-network-proxy/conf.d" \
        "$root/private/etc/codex-network-proxy" 2>/dev/null || true
fi
echo "codex-network-proxy is gone from this Mac"
