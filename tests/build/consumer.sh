#!/usr/bin/env bash
# A program of somebody else compiles, links and runs against an installed engine library, found
# by pkg-config alone: shared, static, and with no name visible that is not of the API.
#
# usage: consumer.sh CMAKE BUILD_DIR COMPILER
set -euo pipefail
cmake=$1
build_dir=$2
compiler=$3
source=$(dirname "$0")/consumer.c

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
for component in engine engine-dev; do
	"$cmake" --install "$build_dir" --prefix "$prefix" --component "$component" >/dev/null
done

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name protofs-engine.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir protofs-engine)
read -r -a cflags < <(pkg-config --cflags protofs-engine)
read -r -a libs < <(pkg-config --libs protofs-engine)
read -r -a static_libs < <(pkg-config --static --libs protofs-engine)
cflags+=(-std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror)

"$compiler" "${cflags[@]}" "$source" -o "$prefix/shared" "${libs[@]}"
LD_LIBRARY_PATH=$libdir "$prefix/shared"
echo "shared: runs"

static_libs=("${static_libs[@]/#-lprotofs_engine/-l:libprotofs_engine.a}")
"$compiler" "${cflags[@]}" "$source" -o "$prefix/static" "${static_libs[@]}"
"$prefix/static"
echo "static: runs"

soname=$(objdump -p "$libdir/libprotofs_engine.so" | awk '/SONAME/ {print $2}')
[[ -e $libdir/$soname ]] || {
	echo "$soname, the SONAME, is not installed"
	exit 1
}

# What is exported is declared with PROTOFS_API in an installed header.
declared=$(cat "$prefix"/include/protofs-engine/*/*.h | tr '\n\t' '  ' |
	grep -oE 'PROTOFS_API[^;{]*' | grep -oE '[a-z_0-9]+ ?\(' | tr -d ' (' | sort -u)
exported() {
	nm "$@" --defined-only | awk 'NF == 3 && $2 ~ /[TDBRVW]/ {print $3}' | sort -u
}
for list in "$(exported -D "$libdir/libprotofs_engine.so")" \
	"$(exported -g "$libdir/libprotofs_engine.a")"; do
	surplus=$(comm -23 <(echo "$list") <(echo "$declared"))
	if [[ -n $surplus ]]; then
		echo "exported, but not declared PROTOFS_API in an installed header:"
		echo "$surplus"
		exit 1
	fi
	[[ -n $list ]] || {
		echo "nothing is exported"
		exit 1
	}
done
echo "exports: $(wc -l <<<"$declared") declared, no others"
