# shellcheck shell=sh
# Points the programs of every login shell at the proxy: /etc/profile.d/codex-network-proxy.sh
#
# This enforces nothing: see nftables.conf. Both cases, since programs differ in which they read.
HTTP_PROXY=http://127.0.0.1:3128
HTTPS_PROXY=http://127.0.0.1:3128
ALL_PROXY=socks5h://127.0.0.1:8081
http_proxy=$HTTP_PROXY
https_proxy=$HTTPS_PROXY
all_proxy=$ALL_PROXY
export HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
# An old value would lead past it.
unset NO_PROXY no_proxy
