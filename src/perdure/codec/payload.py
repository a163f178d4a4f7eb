"""The storage boundary: how the JSON text of an input, result or signal becomes what the database keeps.

1. Without a codec small text is stored as it is, so that a person can read the file.
2. Text over the blob threshold is compressed and kept apart, under the SHA-256 digest of its content.
3. With a codec everything is stored as the codec's bytes. Plain values written before there was one stay readable.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

from perdure.errors import PayloadTooLarge, PerdureError

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST_BODY = 256 * 1024 * 1024
_LARGEST_GROWTH = 1_000
"""How much of anything larger than `max_payload_bytes` compression may have saved: JSON comes nowhere near it."""


class Codec(Protocol):
    """Transforms payload bytes on their way to and from the database, for example encrypts them."""

    def encode(self, plain: bytes) -> bytes: ...

    def decode(self, stored: bytes) -> bytes: ...


class DecodeError(PerdureError):
    """A stored payload cannot be read back: a wrong or missing key or codec, or damaged data."""


class Blob(NamedTuple):
    """A large payload. `digest` is the SHA-256 of the plain text, or with a codec of `body`."""

    digest: bytes
    body: bytes


class Payloads:
    """Store and load payload text. Sizes are in bytes of UTF-8, before compression and codec."""

    __slots__ = ("blob_threshold", "codec", "max_bytes", "plain_below")

    def __init__(
        self, codec: Codec | None = None, max_bytes: int = 16 * 1024 * 1024, blob_threshold: int = 64 * 1024
    ) -> None:
        self.codec = codec
        self.max_bytes = max_bytes
        self.blob_threshold = blob_threshold
        # no character takes more than 4 bytes: text this short needs no look at its size
        self.plain_below = blob_threshold // 4 if codec is None else -1

    def store(self, text: str | None) -> str | bytes | Blob | None:
        """Return what the database keeps: the text itself, the codec's bytes, or a `Blob` when it is large.

        Whatever its size: what got here was accepted before, or is a record that must not be lost, such as a failure.
        """
        if text is None or len(text) <= self.plain_below:
            return text
        if text.isascii() and len(text) <= self.plain_below * 4:
            return text
        return self._store(text.encode())

    def check_size(self, text: str) -> None:
        """Refuse what a user passes when it is too large. Raises `PayloadTooLarge` over `max_bytes`."""
        if len(text) > self.max_bytes // 4 and (size := len(text.encode())) > self.max_bytes:
            raise PayloadTooLarge(
                f"the value takes {size:,} bytes as JSON, the limit is {self.max_bytes:,}",
                hint="store the object elsewhere and pass a reference to it, or raise `max_payload_bytes`",
            )

    def inline(self, text: str | None) -> str | bytes | None:
        """Return what the database keeps where large values are not kept apart: the text, or the codec's bytes."""
        return text if text is None or self.codec is None else self.codec.encode(text.encode())

    def load(self, stored: str | bytes | None, blob: bytes | None = None) -> str | None:
        """Return the text that `store` was given, from the stored value or from the body of its blob.

        Raises `DecodeError` when it cannot be read.
        """
        if blob is not None:
            return self._text(_decompress(self._open_blob(blob), self.max_bytes))
        if stored is None or isinstance(stored, str):
            return stored
        return self._text(self._open(stored))

    def _store(self, plain: bytes) -> str | bytes | Blob:
        if len(plain) > self.blob_threshold:
            body = _compress(plain)
            if self.codec is None:
                return Blob(hashlib.sha256(plain).digest(), body)
            body = self.codec.encode(body)
            return Blob(hashlib.sha256(body).digest(), body)
        return plain.decode() if self.codec is None else self.codec.encode(plain)

    def _open_blob(self, body: bytes) -> bytes:
        plain = body.startswith(_ZSTD_MAGIC)
        if self.codec is None:
            return body if plain else self._open(body)
        try:
            return self._open(body)
        except DecodeError:
            if plain:  # written before there was a codec
                return body
            raise

    def _open(self, stored: object) -> bytes:
        """Undo the codec. A column of a damaged file may hold anything."""
        if not isinstance(stored, bytes):
            raise DecodeError(f"a stored payload is a {type(stored).__name__}", hint="the database may be damaged")
        if self.codec is None:
            hint = "open the database with the codec that it was written with"
            raise DecodeError("a stored payload is encoded, and no codec was given", hint=hint)
        try:
            return self.codec.decode(stored)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(f"the codec could not decode a stored payload: {error}") from error

    def _text(self, plain: bytes) -> str:
        try:
            return plain.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(f"a stored payload is not text: {error}", hint="the database may be damaged") from error


def _compress(plain: bytes) -> bytes:
    import zstandard  # large payloads only

    return zstandard.ZstdCompressor().compress(plain)


def _decompress(body: bytes, max_bytes: int) -> bytes:
    """Undo `_compress`. A frame that would grow too far, or does not say how far, is refused.

    What is larger than `max_bytes` was written where the limit is another one; or it is there to fill the memory.
    """
    import zstandard

    try:
        size = zstandard.frame_content_size(body)
        largest = max(max_bytes, min(_LARGEST_BODY, _LARGEST_GROWTH * len(body)))
        if not 0 <= size <= largest:
            raise DecodeError(
                f"a compressed payload says that it holds {size:,} bytes, the limit is {largest:,}",
                hint="if it is one of yours, open the database with a larger `max_payload_bytes`",
            )
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError as error:
        raise DecodeError(f"a compressed payload is damaged: {error}", hint="restore it from a replica") from error
