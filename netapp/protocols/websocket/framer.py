"""autobahn, kept to what it is best at: frames, fragments, UTF-8, close codes and masks.

What it does besides is done elsewhere. The handshake was parsed and checked by the HTTP engine and
:mod:`netapp.protocols.websocket.handshake`: two parsers must not read one header section. Its timers are coarse, one
``callLater`` each and tied to the global reactor; the connection has one deadline on the timing wheel instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.util import encode_truncate
from twisted.logger import Logger

from netapp.protocols.websocket.deflate import negotiate

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from netapp.protocols.websocket.connection import WebSocketConnection
    from netapp.protocols.websocket.handshake import Handshake
    from netapp.protocols.websocket.policy import WebSocketPolicy

MESSAGE_TOO_BIG = 1009
NO_STATUS = 1005
LOST = 1006
REASON_SIZE = 123
"""Bytes that a Close frame has for its reason (RFC 6455 §5.5)."""

_log = Logger("netapp.protocols.websocket")


class _Muted:
    """autobahn's logger: what it has to say about one peer is for debugging; its own debugging is too dear."""

    @staticmethod
    def debug(_format: str = "", **_fields: object) -> None:
        """Drop it: there are several for each frame."""

    @staticmethod
    def info(format: str = "", **fields: object) -> None:  # noqa: A002 - the signature of a logger
        """Log for debugging."""
        _log.debug(format, **fields)

    trace = debug
    warn = error = critical = failure = info


class Framer(WebSocketServerProtocol):
    """Reads and writes the frames of one connection, its ``owner``. Made by what :func:`framer_for` returns."""

    log = _Muted()
    # what autobahn sets where its annotations, or their lack, say None
    _perMessageCompress: Any
    localCloseCode: Any
    localCloseReason: Any
    websocket_protocols: Any
    maxFramePayloadSize: int
    maxMessagePayloadSize: int

    def __init__(self, owner: WebSocketConnection) -> None:
        super().__init__()
        self._owner = owner
        self._message = bytearray()
        self._consuming = False
        self._connectionMade()

    # -- what the connection calls

    def feed(self, data: bytes) -> None:
        """Take what the client has sent."""
        self.data += data
        self.consumeData()

    def send(self, payload: bytes, *, binary: bool) -> None:
        """Send a message in one frame."""
        opcode = self.MESSAGE_TYPE_BINARY if binary else self.MESSAGE_TYPE_TEXT
        codec = self._perMessageCompress
        if codec is None:
            self.sendFrame(opcode, payload)
        else:
            codec.start_compress_message()
            compressed = codec.compress_message_data(payload)
            self.sendFrame(opcode, compressed + codec.end_compress_message(), rsv=4)

    def start_closing(self, code: int, reason: str) -> None:
        """Send a Close frame."""
        self.sendCloseFrame(code, encode_truncate(reason, REASON_SIZE))

    def lost(self, reason: Failure) -> tuple[int, str]:
        """Note the connection's end; return the code and the reason of the Close frame that began it."""
        self._connectionLost(reason)  # type: ignore[arg-type]  # autobahn's annotation is wrong
        if self.closedByMe:
            return self.localCloseCode, self.localCloseReason.decode()
        if self.wasClean:
            return self.remoteCloseCode or NO_STATUS, self.remoteCloseReason or ""
        return LOST, ""

    # -- what autobahn calls, on the way out

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:  # noqa: ARG002, FBT001, FBT002 - autobahn's signature
        """Write to the transport, at once."""
        self._owner.transport.write(data)

    def unregisterProducer(self) -> None:
        """Nothing: the connection has its own."""

    def _fail_connection(
        self, code: int = WebSocketServerProtocol.CLOSE_STATUS_CODE_GOING_AWAY, reason: str = ""
    ) -> None:
        """Say what was wrong, and read no more frames (RFC 6455 §7.1.7)."""
        if self.state == self.STATE_CLOSED:
            return
        self._owner.violated(code, reason, frame=self.wasMaxFramePayloadSizeExceeded)
        if self.state == self.STATE_OPEN:
            self.start_closing(code, reason)
        self.dropConnection()

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - autobahn's signature
        """All frames are read: let the transport close, in order even where autobahn would abort."""
        self.data = b""
        self._owner.finish(clean=self.wasClean)

    # -- what autobahn calls, on the way in

    def processHandshake(self) -> None:
        """Skip the request, which has been read and checked before, and answer it."""
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        self.data = self.data[end + 4 :]
        handshake: Handshake = self._owner.handshake
        fields = {}
        if self._owner.policy.deflate and (agreed := negotiate(self._parseExtensionsHeader(handshake.extensions))):
            self._perMessageCompress, fields["Sec-WebSocket-Extensions"] = agreed
            self._make_room()
        self._wskey = handshake.key
        self.websocket_version = 13
        self.websocket_protocols = [handshake.subprotocol]
        self.websocket_extensions: list[object] = []
        self.succeedHandshake((handshake.subprotocol, fields))

    def _make_room(self) -> None:
        """Let autobahn's limits, which it also applies to what is still compressed, be a little above ours.

        What does not compress grows by up to 5 bytes for each of deflate's blocks (RFC 1951 §3.2.4). And zlib stops
        exactly at a limit, where what it still had in hand is lost without a word; it must be over ours by then.
        """
        room = 64 + self.maxMessagePayloadSize // 512
        self.maxMessagePayloadSize += room
        self.maxFramePayloadSize += room

    def consumeData(self) -> None:
        """Process frames, for as long as their answers have somewhere to go."""
        if self.state == self.STATE_CONNECTING:
            self.processHandshake()
        elif not self._consuming:
            self._consuming = True
            owner = self._owner
            while owner.ready and self.state != self.STATE_CLOSED and self.processData():
                pass
            self._consuming = False

    def _onOpen(self) -> None:
        self._owner.opened()

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: FBT001
        """Nothing: the connection tells the service."""

    def onMessageBegin(self, isBinary: bool) -> None:  # noqa: FBT001 - autobahn's signature
        """Start a message. It is gathered in one buffer, for a list of its parts may be far larger than they are."""
        self.message_is_binary = isBinary
        self.message_data_total_length = 0
        self._message = bytearray()

    def onMessageFrameData(self, payload: bytes) -> None:
        """Take a part of a message."""
        self._message += payload

    def onMessageFrameEnd(self) -> None:
        """Nothing: frames have no meaning of their own."""

    def onMessageEnd(self) -> None:
        """Deliver a message."""
        message, self._message = self._message, bytearray()
        limit = self._owner.policy.max_message
        if len(message) > limit:
            self._fail_connection(MESSAGE_TOO_BIG, f"a message is over {limit} bytes")
        else:
            self._owner.received(bytes(message) if self.message_is_binary else message.decode(), len(message))


def framer_for(policy: WebSocketPolicy, clock: IReactorTime) -> Callable[[WebSocketConnection], Framer]:
    """Make the framer of a policy: a class that holds autobahn's options.

    autobahn would copy the forty of them to each connection and format all for its log, which is ten times the work of
    everything else that a new connection needs.
    """
    factory = WebSocketServerFactory(reactor=clock, server="")
    factory.setProtocolOptions(
        webStatus=False,
        maxFramePayloadSize=policy.max_frame,
        maxMessagePayloadSize=policy.max_message,
        echoCloseCodeReason=True,
        openHandshakeTimeout=0,
        closeHandshakeTimeout=0,
    )
    options = {name: getattr(factory, name) for name in Framer.CONFIG_ATTRS}
    members = {name: staticmethod(value) if callable(value) else value for name, value in options.items()}
    made = type("PolicyFramer", (Framer,), {"CONFIG_ATTRS": (), "factory": factory, **members})
    return cast("Any", made)  # type: ignore[no-any-return]
