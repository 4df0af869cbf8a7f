"""Closing a listening socket without resetting those who have just connected.

When a listening socket is closed, the kernel resets every connection that is complete but not accepted yet, and its
client has perhaps sent a request already. Accepting until the queue is empty leaves a gap before the close, and under
load somebody is always in it. So newcomers are turned away first: a filter on the socket drops their SYN, and they try
again a second later, by when the port is closed and refuses them, or another process has it. Those who are through
their handshake by then are accepted as ever.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
# classic BPF (linux/filter.h): code, jump if true, jump if false, operand; the filter sees the TCP header
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags (RFC 9293 §3.1)
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone opens a connection …
    (0x06, 0, 0, 0),  # … drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # pass everything else
)


def turn_newcomers_away(listening: socket.socket) -> bool:
    """Let the kernel drop what would open another connection; False where it cannot be told to (not Linux, not TCP)."""
    if not sys.platform.startswith("linux") or listening.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True
