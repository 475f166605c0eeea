# Completion of protofs(1) for bash.
# shellcheck shell=bash

# Options of a verb; those that take a value end with '='.
_protofs_options() {
	local common='--help --usage --verbose --quiet'
	local cloud='--cloud= --durability= --upload-interval= --transfers= --bandwidth= --disk-max= --cache-max= --endpoint= --region= --virtual-host --profile= --credentials= --ca-bundle= --server-id='
	case $1 in
	init) echo "$common $cloud --block-size= --node=" ;;
	clone) echo "$common ${cloud#* } --full --take-over --node= --json" ;;
	mount)
		echo "$common $cloud --foreground --allow-other --auto-unmount --blob-max= --cache-size=" \
			"--debug --take-over --fence-root --flush-interval= --gid= --log=" \
			"--noprotect --read-ahead= --receivers= --ro --segment-size= --size= --spin=" \
			"--strict-root --uid="
		;;
	umount) echo "$common --flush --lazy --wait=" ;;
	put) echo "$common --format=" ;;
	cat) echo "$common --json --frame" ;;
	ls) echo "$common --json" ;;
	scrub) echo "$common --cloud --json" ;;
	root) echo "$common --json --count= --expect=" ;;
	status) echo "$common --json --watch --count=" ;;
	fsck) echo "$common --cloud --deep --repair --json" ;;
	backup) echo "$common --verify --json" ;;
	restore) echo "$common --accept --json" ;;
	prune) echo "$common --keep-roots= --yes --json" ;;
	bench) echo "$common --time= --json" ;;
	*) echo "$common" ;;
	esac
}

# Values of an option, one word each; fails where a file or free text is meant.
_protofs_values() {
	case $1 in
	--durability) echo 'local quorum cloud' ;;
	--format | -f) echo 'raw json msgpack' ;;
	--uid) compgen -u | tr '\n' ' ' ;;
	--gid) compgen -g | tr '\n' ' ' ;;
	*) return 1 ;;
	esac
}

# Mountpoints of stores, as mountinfo escapes them.
_protofs_mountpoints() {
	local fields
	while read -r -a fields; do
		[[ " ${fields[*]} " == *" - fuse.protofs "* ]] && printf '%b\n' "${fields[4]//\\/\\0}"
	done </proc/self/mountinfo
}

# The words that may stand at place COUNT (from 1) after the verb; none: files.
_protofs_words() {
	local verb=$1 count=$2
	case $verb:$count in
	ls:2) echo 'segments atoms roots cloud' ;;
	root:2) echo 'show log set rollback' ;;
	help:1) _protofs_verbs ;;
	esac
}

_protofs_verbs() {
	echo 'init mount umount put cat ls root status fsck scrub backup restore clone prune bench version'
}

_protofs() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
	local verb=${COMP_WORDS[1]-} words place=0 i

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$(_protofs_verbs) help" -- "$current")
		return
	fi

	# bash splits --option=value at the '='
	if [[ $current == = ]]; then
		current=
	elif [[ $previous == = ]]; then
		previous=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	[[ $verb:$previous != mount:-f ]] || previous=
	if words=$(_protofs_values "$previous"); then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
		return
	fi
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_protofs_options "$verb")" -- "$current")
		COMPREPLY=("${COMPREPLY[@]%=}")
		return
	fi

	for ((i = 2; i <= COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || place=$((place + 1))
	done
	words=$(_protofs_words "$verb" "$place")
	if [[ -n $words ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
	elif [[ $verb == umount ]]; then
		local IFS=$'\n'
		mapfile -t COMPREPLY < <(compgen -W "$(_protofs_mountpoints)" -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
	fi
}

complete -o filenames -F _protofs protofs
