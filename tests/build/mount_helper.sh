#!/usr/bin/env bash
# mount.protofs passes on what is ours and drops what is mount's own.
#
# usage: mount_helper.sh MOUNT_PROTOFS
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/sbin" "$scratch/bin"
cp "$1" "$scratch/sbin/mount.protofs"
printf '#!/bin/sh\nprintf "[%%s]" "$@"\necho\n' >"$scratch/bin/protofs"
chmod +x "$scratch/bin/protofs"

failed=0
# expect OUTPUT ARGUMENT...
expect() {
	local expected=$1 actual
	shift
	actual=$("$scratch/sbin/mount.protofs" "$@" 2>&1) || actual="exit $?"
	[[ $actual == "$expected" ]] && return
	printf 'mount.protofs %s\n  expected %s\n  but got  %s\n' "$*" "$expected" "$actual"
	failed=1
}

expect '[mount][/s][/m]' /s /m
expect '[mount][/s][/m]' /s /m -o rw
expect '[mount][/s][/m]' /s /m -n -o defaults,_netdev,nofail,noauto,user,x-systemd.automount
expect '[mount][/s][/m][-o][ro,allow_other]' /s /m -o ro,_netdev,allow_other
expect '[mount][/s][/m][-o][uid=1,credentials=/a b]' /s /m -o uid=1 -o 'credentials=/a b'
expect '[mount][/a b][/c d][-o][ro]' '/a b' '/c d' -sn -o 'rw,,ro,'
expect '' /s /m -f
expect "exit 1" /s
expect "exit 1" -o ro /s /m
expect "exit 1" /s /m extra

((failed)) || echo "10 invocations are as expected"
exit "$failed"
