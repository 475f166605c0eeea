#!/usr/bin/env bash
# The include roots enforce the layers: for every pair of modules, a file that is compiled as the
# one and includes a header of the other compiles if, and only if, the table below allows it.
#
# usage: layering.sh COMPILER SOURCE_DIR MODULE=DIR:DIR...    (a module and its include roots)
set -euo pipefail

declare -A may_include=(
	[base]="base"
	[engine]="engine base"
	[cloud]="cloud base"
	[cluster]="cluster base"
	[fs]="fs engine base"
	[cmd]="cmd fs cluster cloud engine base"
)

compiler=$1
source_dir=$2
shift 2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# one "module header" a line, for each module that has a header
headers() {
	local module header
	for module in "${!may_include[@]}"; do
		for header in "$source_dir/$module"/*.h; do
			[[ -e $header ]] || continue
			echo "$module ${header#"$source_dir/"}"
			break
		done
	done
}

# __has_include asks for the path alone, so that a header's own needs do not decide.
resolves() {
	local header=$1
	shift
	printf '#if !__has_include("%s")\n#error out of reach\n#endif\n' "$header" >"$scratch/try.c"
	"$compiler" -std=c17 -fsyntax-only "$@" "$scratch/try.c" 2>/dev/null
}

failed=0
tried=0
refused=0
for argument in "$@"; do
	module=${argument%%=*}
	IFS=: read -r -a roots <<<"${argument#*=}"
	while read -r owner header; do
		expected=refused
		[[ " ${may_include[$module]} " == *" $owner "* ]] && expected=allowed
		actual=refused
		resolves "$header" "${roots[@]/#/-I}" && actual=allowed
		tried=$((tried + 1))
		[[ $actual == refused ]] && refused=$((refused + 1))
		if [[ $actual != "$expected" ]]; then
			echo "$module: \"$header\" is $actual, must be $expected"
			failed=1
		fi
	done < <(headers)
done

echo "$tried pairs tried, $refused of them refused"
if ((refused == 0 || refused == tried)); then
	echo "that proves nothing: there must be both kinds"
	failed=1
fi
exit "$failed"
