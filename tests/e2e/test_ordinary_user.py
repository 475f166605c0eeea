"""A store and its mount that belong to a user who is not root: fusermount3 mounts it, as on anybody's desktop."""

import os
import shutil
import stat
import sys

from lib import (PROTOFS, check_in, main, need, run, skip, temporary_dir, test)

USER = 65534  # nobody, in every Debian

SCRIPT = r"""
set -eu
cd "$1"
trap 'fusermount3 -uzq mnt || true' EXIT
[ "$(id -u)" != 0 ]
"$2" init store
mkdir mnt
"$2" mount store mnt
echo '{"a": 1}' > mnt/atoms/in/x
[ "$(cat mnt/atoms/in/x)" = '{"a": 1}' ]
[ "$(stat -c %u mnt/wal)" = "$(id -u)" ]
pointer=$("$2" put mnt "$2")
"$2" cat mnt "$pointer" | cmp - "$2"

# The daemon dies; the next mount cleans up behind it.
kill -9 "$(cat store/lock)"
while [ -e "/proc/$(cat store/lock)" ]; do sleep 0.05; done
"$2" mount store mnt
"$2" cat mnt "$pointer" | cmp - "$2"
"$2" umount mnt
"$2" fsck --deep store
"""


def as_user(directory, program):
    """The command line that runs SCRIPT as that user, with a /dev/fuse that is open to him."""
    own = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", f"HOME={directory}",
           "sh", "-c", SCRIPT, "sh", directory, program]
    if os.stat("/dev/fuse").st_mode & stat.S_IWOTH:
        return own
    # Elsewhere than here its mode stays as it is: an own device in an own namespace.
    if run(["unshare", "-m", "true"], ok=None).code != 0:
        skip("/dev/fuse is closed to ordinary users, and no mount namespace of our own can be had")
    device = f"{directory}/fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    os.chmod(device, 0o666)
    return ["unshare", "-m", "sh", "-c", f'mount --bind {device} /dev/fuse && exec "$@"', "sh", *own]


@test
def mount_crash_and_mount_again():
    if os.getuid() != 0:
        skip("the other tests run as an ordinary user already")
    need("setpriv", "unshare", "fusermount3")
    with temporary_dir() as directory:
        os.chmod(directory, 0o755)
        os.chown(directory, USER, USER)
        program = shutil.copy(PROTOFS, directory)  # which may lie where that user cannot look
        command = as_user(directory, program)
        done = run(command, timeout=120)
        check_in("clean", done.out, "what fsck says in the end")


if __name__ == "__main__":
    sys.exit(main())
