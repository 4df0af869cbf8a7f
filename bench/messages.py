"""Messages and the replies they must get, encoded here by hand so that no server's own code checks itself."""

from __future__ import annotations

ADD = 2  # the oneof tag of AddRequest in ClientMessage and of AddResponse in ServerMessage


def varint(value: int) -> bytes:
    """Encode a non-negative integer as protocol buffers do: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _field(tag: int, payload: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def _delimited(message: bytes) -> bytes:
    return varint(len(message)) + message


def add_request(a: int, b: int) -> bytes:
    """Encode ClientMessage{AddRequest{a, b}} behind its varint length."""
    return _delimited(_field(ADD, b"\x08" + varint(a) + b"\x10" + varint(b)))


def add_response(result: int) -> bytes:
    """Encode ServerMessage{AddResponse{result}} behind its varint length."""
    return _delimited(_field(ADD, b"\x08" + varint(result)))


def additions(connections: int) -> list[tuple[bytes, bytes]]:
    """Give each connection a sum of its own, so that an answer to a neighbour's is seen to be wrong."""
    return [(add_request(1000 + i, 2000 + i), add_response(3000 + 2 * i)) for i in range(connections)]


def echoes(connections: int, size: int = 16) -> list[tuple[bytes, bytes]]:
    """Give each connection a text of its own, `size` bytes long, which must come back."""
    texts = (f"{i:0{size}d}".encode() for i in range(connections))
    return [(text, text) for text in texts]


def same_back(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Expect of an echo server the messages themselves."""
    return [(message, message) for message, _ in pairs]


def as_lines(pairs: list[tuple[bytes, bytes]]) -> str:
    """Write pairs as bench/loadgen.c reads them."""
    return "".join(f"{message.hex()} {reply.hex()}\n" for message, reply in pairs)
