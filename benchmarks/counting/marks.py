"""Telling whoever counts instructions where an inference begins and ends; used inside the counted process.

Both ways are plain machine instructions that mean something only to the program around this process: nothing is
linked, and outside it they do nothing. Standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from lightseg.errors import Unsupported

MAGIC = 0x7E000000
"""No process has this number, so asking for its priority does nothing; the emulator's plugin listens for it."""

PREAMBLE = "48c1c703 48c1c70d 48c1c73d 48c1c733 4887db"
"""rol $3,%rdi; rol $13,%rdi; rol $61,%rdi; rol $51,%rdi; xchg %rbx,%rbx: valgrind's sign, in all no operation."""
ZERO, DUMP, START, STOP = (0x43540000 + n for n in (1, 0, 4, 5))
"""Callgrind's client requests: counts to zero, write them out, begin and end counting ("CT" in front)."""


class Marks(Protocol):
    """`begin` and `end` enclose a region; regions are written out in their order."""

    def begin(self) -> None: ...

    def end(self) -> None: ...


class CallgrindMarks:
    """Client requests to callgrind. Errors: `Unsupported` on other processors than x86-64."""

    def __init__(self) -> None:
        if platform.machine() not in ("x86_64", "AMD64"):
            raise Unsupported(f"instructions are counted by callgrind on x86-64 only, and this is {platform.machine()}")
        self._request = client_request()
        self._request(START)

    def begin(self) -> None:
        self._request(ZERO)

    def end(self) -> None:
        self._request(DUMP)


def client_request() -> Callable[[int], int]:
    """A function that makes one request without arguments and returns valgrind's answer, 0 outside valgrind."""
    code = bytes.fromhex(f"4889f8 31d2 {PREAMBLE} 4889d0 c3")  # mov %rdi,%rax; xor %edx,%edx; …; mov %rdx,%rax; ret
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def request(number: int) -> int:
        arguments = (ctypes.c_uint64 * 6)(number)
        answer: int = function(ctypes.addressof(arguments))
        return answer

    request.page = page  # type: ignore[attr-defined]  # the code must live as long as the function
    return request


class SyscallMarks:
    """A system call that fails everywhere, with numbers the emulator's plugin knows."""

    def begin(self) -> None:
        with suppress(OSError):
            os.getpriority(os.PRIO_PROCESS, MAGIC)

    def end(self) -> None:
        with suppress(OSError):
            os.getpriority(os.PRIO_PROCESS, MAGIC + 1)


MARKS: dict[str, Callable[[], Marks]] = {"callgrind": CallgrindMarks, "syscall": SyscallMarks}
