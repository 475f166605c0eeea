#!/usr/bin/env bash
# The table of includes, as far as the include roots cannot enforce it: foreign headers lie in
# /usr/include, open to all, and a path with ".." leaves any root.
#
# usage: includes.sh SOURCE_DIR
set -euo pipefail
cd "$1"

# Who may include which foreign headers, as a pattern of header names. What is not here is free:
# libc and the kernel.
declare -A owners=(
	['xxhash\.h']="base"
	['liburing\.h|liburing/.*']="engine bench"
	['curl/.*|openssl/.*']="cloud cluster bench"
	['expat\.h']="cloud"
	['ini\.h']="cloud cmd"
	['(fuse3/)?fuse(_.*)?\.h']="fs cmd bench e2e"
	['yajl/.*']="cloud cluster fs cmd"
	['msgpack\.h|msgpack/.*']="fs cmd"
	['check\.h']="tests"
)

failed=0
complain() {
	echo "$1"
	failed=1
}

# every #include as "file:line:name"
includes=$(grep -HnoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"][^>"]+' \
	include/*/*.h {base,engine,cloud,cluster,fs,cmd,bench}/*.[ch] \
	tests/*/*.[ch] tests/unit/*/*.[ch] 2>/dev/null |
	sed -E 's/:[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]/:/' || true)
[[ -n $includes ]] || complain "no #include found under $1"

while IFS=: read -r file line name; do
	module=${file%%/*}
	[[ $name != *..* ]] || complain "$file:$line: \"$name\" leaves the module by \"..\""
	for pattern in "${!owners[@]}"; do
		[[ $name =~ ^($pattern)$ ]] || continue
		# a unit test may include what its module may
		user=$module
		[[ $file =~ ^tests/(unit/)?([^/]+)/ ]] && user="tests ${BASH_REMATCH[2]}"
		allowed=no
		for candidate in $user; do
			[[ " ${owners[$pattern]} " == *" $candidate "* ]] && allowed=yes
		done
		[[ $allowed == yes ]] ||
			complain "$file:$line: <$name> is for ${owners[$pattern]// /, } only"
	done
done <<<"$includes"

((failed)) || echo "$(wc -l <<<"$includes") includes, all within the table"
exit "$failed"
