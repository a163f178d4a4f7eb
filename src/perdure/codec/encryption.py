"""Payload encryption with AES-256-GCM and keys that can be rotated.

A stored payload is `version (1) | length of key id (1) | key id | nonce (12) | ciphertext and tag`. Everything before
the nonce is authenticated with the ciphertext. The nonce is random, so use one key for fewer than 2**32 payloads.
A payload is not bound to its place: who can write the file can swap two of them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from perdure.codec.payload import DecodeError
from perdure.errors import PerdureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12


class InvalidKeys(PerdureError, ValueError):
    """The encryption keys are missing or malformed."""


class AesGcmCodec:
    """Encrypt payloads with the key named `current`; every key in `keys` still decrypts.

    Rotate by adding a key and making it current, and keep the old one for as long as its payloads live.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        if current not in keys:
            raise InvalidKeys(f"the current key {current!r} is not among the keys", hint="add it to `keys`")
        for key_id, key in keys.items():
            if not 0 < len(key_id.encode()) < 256:
                raise InvalidKeys(f"the key id {key_id!r} must take 1 to 255 bytes")
            if len(key) != _KEY_BYTES:
                hint = "make one with `AesGcmCodec.generate_key()`"
                raise InvalidKeys(f"the key {key_id!r} has {len(key)} bytes instead of {_KEY_BYTES}", hint=hint)
        cipher, self._invalid_tag = _cryptography()
        self._ciphers = {key_id.encode(): cipher(key) for key_id, key in keys.items()}
        self._header = bytes((_VERSION, len(current.encode()))) + current.encode()
        self._current = self._ciphers[current.encode()]

    @classmethod
    def from_environment(cls, variable: str = "PERDURE_KEYS") -> AesGcmCodec:
        """Read the keys from an environment variable: `id:base64,id2:base64`. The first one is current."""
        text = os.environ.get(variable, "")
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(filter(None, (part.strip() for part in text.split(",")))):
            key_id, _, encoded = entry.rpartition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError:
                key = b""
            if not key_id or not key or key_id in keys:  # never print the entry: it is a secret
                hint = "write `id:base64,id2:base64`, each id once"
                raise InvalidKeys(f"entry {position + 1} of {variable} is not an encryption key", hint=hint)
            keys[key_id] = key
        if not keys:
            raise InvalidKeys(f"{variable} is not set", hint="set it to `id:base64`, with a key of 32 bytes")
        return cls(keys, current=next(iter(keys)))

    @staticmethod
    def generate_key() -> bytes:
        """Return a new random key of 32 bytes."""
        return os.urandom(_KEY_BYTES)

    def encode(self, plain: bytes) -> bytes:
        """Encrypt with the current key."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + self._current.encrypt(nonce, plain, self._header)

    def decode(self, stored: bytes) -> bytes:
        """Decrypt with the key that the payload names.

        Raises `DecodeError` when that key is not known, is another one, or the data was changed.
        """
        if len(stored) < 2 or stored[0] != _VERSION:
            hint = "was the database written with another codec?"
            raise DecodeError("a stored payload was not encrypted by AesGcmCodec", hint=hint)
        end = 2 + stored[1]
        header, nonce, sealed = stored[:end], stored[end : end + _NONCE_BYTES], stored[end + _NONCE_BYTES :]
        cipher = self._ciphers.get(header[2:])
        name = header[2:].decode("utf-8", "backslashreplace")
        if cipher is None:
            hint = "keep old keys in `keys` for as long as payloads encrypted with them live"
            raise DecodeError(f"a stored payload was encrypted with the unknown key {name!r}", hint=hint)
        try:
            return cipher.decrypt(nonce, sealed, header)
        except (self._invalid_tag, ValueError) as error:
            hint = "the key under this id is not the one that encrypted it, or the data was changed"
            raise DecodeError(f"a stored payload cannot be decrypted with the key {name!r}", hint=hint) from error

    def __repr__(self) -> str:
        ids = ", ".join(key_id.decode() for key_id in self._ciphers)
        return f"<AesGcmCodec with keys {ids}>"


def _cryptography() -> tuple[type[AESGCM], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        hint = 'pip install "perdure[encryption]"'
        raise PerdureError("encryption needs the package cryptography", hint=hint) from error
    return AESGCM, InvalidTag
