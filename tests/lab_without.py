"""Run `sdlab` on a machine with fewer protections: `python lab_without.py WHAT ARGUMENTS...`.

The kernel itself refuses: a seccomp filter, which child processes inherit, answers the calls as an older
kernel (Landlock) or a container (namespaces) does. Nothing in sdlab knows of it.
"""

import ctypes
import errno
import platform
import struct
import sys

LANDLOCK, CLONE3 = 444, 435
UNSHARE = {"x86_64": 272, "aarch64": 97}.get(platform.machine())
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
NEWUSER, NEWPID = 0x10000000, 0x20000000
NO_CLONE3 = (CLONE3, 0, errno.ENOSYS)  # its flags are out of a filter's reach; libraries then use clone


def _namespaces(flags: int) -> list[tuple[int, int, int]]:
    return [(UNSHARE, flags, errno.EPERM), (CLONE, flags, errno.EPERM), NO_CLONE3]


# (system call, bits of its first argument that matter or 0 for all, the answer)
REFUSED = {
    "not Linux": [],
    "landlock": [(LANDLOCK, 0, errno.ENOSYS)],
    "namespaces": _namespaces(NEWUSER),
    "both": [(LANDLOCK, 0, errno.ENOSYS), *_namespaces(NEWUSER)],
    "process namespaces": _namespaces(NEWPID),
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
