"""permessage-deflate (RFC 7692), with what autobahn's lacks for the open internet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autobahn.exception import PayloadCorruptError
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXTENSION = PerMessageDeflateOffer.EXTENSION_NAME
TRAILER = 8
"""Bytes that may stand behind a message's final block: an empty block's header and its length (RFC 7692 §7.2.3.4)."""


class BoundedDeflate(PerMessageDeflate):
    """autobahn's, for messages that each stand by themselves: nothing is held between two of them.

    zlib keeps whatever follows a final block, and decodes it to nothing, so no limit of decoded size ever sees it: a
    client could fill the memory with it.
    """

    _decompressor: Any

    def end_compress_message(self) -> bytes:
        """Finish a message, and give the compressor's 256 KiB back."""
        data: bytes = super().end_compress_message()
        self._compressor = None
        return data

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Inflate a part of a message; raises PayloadCorruptError for data behind the final block."""
        inflated: bytes = super().decompress_message_data(data, max_output_len)
        if len(self._decompressor.unused_data) > TRAILER:
            raise PayloadCorruptError("data behind the final block")
        return inflated

    def end_decompress_message(self) -> None:
        """Finish a message."""
        super().end_decompress_message()
        self._decompressor = None


def negotiate(offers: Iterable[tuple[str, Mapping[str, list[object]]]]) -> tuple[BoundedDeflate, str] | None:
    """Accept the first valid offer: return the codec and the response's field value. Others are declined (§5.1)."""
    for name, parameters in offers:
        if name != EXTENSION:
            continue
        try:
            offer = PerMessageDeflateOffer.parse(parameters)
        except Exception:  # noqa: BLE001, S112 - what autobahn raises for a parameter that RFC 7692 §7.1 does not allow
            continue
        # every client must take part in "no context takeover" of its own side when the server says so (§7.1.1.2)
        accept = PerMessageDeflateOfferAccept(offer, request_no_context_takeover=True, no_context_takeover=True)
        return BoundedDeflate.create_from_offer_accept(True, accept), accept.get_extension_string()  # noqa: FBT003
    return None
