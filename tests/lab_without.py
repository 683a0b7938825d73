"""Runs `sdlab` on a machine that has fewer walls: `python lab_without.py WHAT ARGUMENTS...`, for the tests of sdlab.labs.

The kernel itself refuses: a seccomp filter, which child processes inherit, answers the calls as an older kernel (Landlock)
or a container (namespaces) does. Nothing in sdlab knows of it.
"""

import ctypes
import errno
import platform
import struct
import sys

LANDLOCK, UNSHARE = 444, {"x86_64": 272, "aarch64": 97}.get(platform.machine())
NEWPID = 0x20000000
# (system call, bits of its first argument that matter or 0 for all, the answer)
REFUSED = {
    "not Linux": [],
    "landlock": [(LANDLOCK, 0, errno.ENOSYS)],
    "namespaces": [(UNSHARE, 0, errno.EPERM)],
    "both": [(LANDLOCK, 0, errno.ENOSYS), (UNSHARE, 0, errno.EPERM)],
    "process namespaces": [(UNSHARE, NEWPID, errno.EPERM)],
}


def refuse(what: str) -> bool:
    """From now on, and in every child: the kernel refuses `what`. False where there is no seccomp."""
    load_call, load_argument, refuse_with, allow = (
        (0x20, 0, 0, 0),
        (0x20, 0, 0, 16),
        0x00050000,
        (0x06, 0, 0, 0x7FFF0000),
    )  # linux/bpf_common.h, seccomp.h
    program = []
    for number, bits, answer in REFUSED[what]:
        program += [load_call, (0x15, 0, 3, number)]
        program += [load_argument, (0x45, 0, 1, bits)] if bits else [load_call, (0x15, 0, 1, number)]
        program += [(0x06, 0, 0, refuse_with | answer)]
    program += [allow]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)
    return libc.prctl(22, 2, ctypes.create_string_buffer(header, len(header)), 0, 0) == 0


if __name__ == "__main__":
    if not refuse(sys.argv[1]):
        sys.exit(77)
    from sdlab.cli import main
    from sdlab.labs import leaderboard

    leaderboard.REFERENCES.clear()  # only the submissions are trained
    sys.exit(main(sys.argv[2:]))
