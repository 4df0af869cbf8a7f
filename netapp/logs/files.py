"""Where log lines go: a descriptor, and a file that can be reopened after it was rotated."""

from __future__ import annotations

import errno
import os

from netapp.errors import StartupError

STDOUT = 1


class Descriptor:
    """Lines to an open file descriptor, as UTF-8, each with one write(2) and no buffer.

    So lines of several processes that append to one file do not mix, nothing is lost in a crash, and after an error
    no half-written buffer is left to be dealt with. Standard output is taken by its number, because Twisted replaces
    ``sys.stdout`` with a file that writes to the log.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False

    def write(self, text: str) -> None:
        """Write a whole line; OSError where it did not fit, and the next one then starts on a line of its own."""
        data = text.encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        written = os.write(self._fd, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "the line was cut")


class LogFile(Descriptor):
    """A file that lines are appended to, created with mode 0640. StartupError where it cannot be opened."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            super().__init__(self._open())
        except OSError as problem:
            raise StartupError(f"the log file {path} cannot be opened: {problem.strerror}") from problem

    def reopen(self) -> None:
        """Go on in the file that has the path now, created if need be; OSError leaves everything as it was.

        The new file takes the old one's descriptor (dup2(2)), so that there is no instant without one, whatever
        thread is writing.
        """
        fresh = self._open()
        try:
            os.dup2(fresh, self._fd, inheritable=False)
        finally:
            os.close(fresh)

    def close(self) -> None:
        """Close the file; what is written from now on is an error."""
        os.close(self._fd)
        self._fd = -1

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
