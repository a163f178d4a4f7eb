from __future__ import annotations

import hashlib
import sys

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.encryption import AesGcmCodec, InvalidKeys
from perdure.codec.payload import Blob, DecodeError, Payloads
from perdure.errors import PayloadTooLarge, PerdureError

KEY = bytes(range(32))
OTHER = bytes(32)


def keyring(current: str = "a", **keys: bytes) -> AesGcmCodec:
    return AesGcmCodec(keys or {"a": KEY}, current)


def through(payloads: Payloads, text: str | None, reader: Payloads | None = None) -> str | None:
    stored = payloads.store(text)
    reader = reader or payloads
    return reader.load(None, stored.body) if isinstance(stored, Blob) else reader.load(stored, None)


@given(st.none() | st.text(), st.booleans(), st.integers(0, 64))
def test_text_comes_back(text: str | None, encrypted: bool, threshold: int) -> None:
    payloads = Payloads(keyring() if encrypted else None, blob_threshold=threshold)
    assert through(payloads, text) == text


def test_small_text_without_a_codec_is_stored_as_it_is() -> None:
    text = '{"a":1}'
    assert Payloads().store(text) is text
    assert Payloads().store(None) is None


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_the_threshold_counts_bytes_of_utf8(character: str) -> None:
    size = len(character.encode())
    payloads = Payloads(blob_threshold=12 * size, max_bytes=24 * size)
    assert payloads.store(character * 12) == character * 12
    assert isinstance(payloads.store(character * 13), Blob)
    assert isinstance(payloads.store(character * 24), Blob)
    payloads.check_size(character * 24)
    with pytest.raises(PayloadTooLarge):
        payloads.check_size(character * 25)
    assert isinstance(payloads.store(character * 25), Blob), "what was accepted before the limit changed is kept"


def test_a_limit_below_the_threshold_holds() -> None:
    for text in ("x" * 11, "é" * 6):
        with pytest.raises(PayloadTooLarge):
            Payloads(max_bytes=10).check_size(text)
    with pytest.raises(PayloadTooLarge):
        Payloads(keyring(), max_bytes=10).check_size("x" * 11)


def test_a_value_that_is_too_large_says_how_large_and_what_to_do() -> None:
    with pytest.raises(PayloadTooLarge, match=r"16,777,217 bytes .* limit is 16,777,216") as caught:
        Payloads().check_size("x" * (16 * 1024 * 1024 + 1))
    assert "reference" in caught.value.hint


def test_large_text_is_compressed_under_the_digest_of_its_content() -> None:
    text = "x" * 100_000
    blob = Payloads().store(text)
    assert isinstance(blob, Blob)
    assert blob.digest == hashlib.sha256(text.encode()).digest()
    assert len(blob.body) < 1000


def test_with_a_codec_nothing_readable_is_stored() -> None:
    payloads = Payloads(keyring(), blob_threshold=1000)
    small, large = payloads.store("secret"), payloads.store("secret" * 1000)
    assert isinstance(small, bytes)
    assert b"secret" not in small
    assert isinstance(large, Blob)
    assert large.digest == hashlib.sha256(large.body).digest()
    assert not large.body.startswith(zstandard.FRAME_HEADER)


@pytest.mark.parametrize("text", ["small", "large" * 100])
def test_what_was_stored_before_there_was_a_codec_stays_readable(text: str) -> None:
    assert through(Payloads(blob_threshold=100), text, Payloads(keyring())) == text


@pytest.mark.parametrize("text", ["small", "large" * 100])
def test_encoded_payloads_need_the_codec(text: str) -> None:
    with pytest.raises(DecodeError, match="no codec") as caught:
        through(Payloads(keyring(), blob_threshold=100), text, Payloads())
    assert caught.value.hint


def test_damaged_blobs_are_refused() -> None:
    blob = Payloads(blob_threshold=10).store("x" * 1000)
    assert isinstance(blob, Blob)
    for body in (blob.body[:-3], blob.body[:6], b"\x28\xb5\x2f\xfd", b""):
        with pytest.raises(DecodeError):
            Payloads().load(None, body)
    with pytest.raises(DecodeError, match="not text"):
        Payloads().load(None, zstandard.ZstdCompressor().compress(b"\xff\xfe"))


def test_a_blob_that_would_fill_the_memory_is_refused() -> None:
    bomb = bytearray(zstandard.ZstdCompressor().compress(bytes(300 * 1024 * 1024)))
    with pytest.raises(DecodeError, match="limit"):
        Payloads().load(None, bytes(bomb))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    with pytest.raises(DecodeError):
        Payloads().load(None, unsized)


class Reversing:
    def encode(self, plain: bytes) -> bytes:
        return plain[::-1]

    def decode(self, stored: bytes) -> bytes:
        if stored == b"broken":
            raise KeyError("no key")
        return stored[::-1]


def test_a_codec_of_the_users_own() -> None:
    payloads = Payloads(Reversing(), blob_threshold=100)
    assert payloads.store("abc") == b"cba"
    assert through(payloads, "x" * 1000) == "x" * 1000
    with pytest.raises(DecodeError, match="no key"):
        payloads.load(b"broken", None)


@given(st.binary())
def test_encryption_comes_back(plain: bytes) -> None:
    assert keyring().decode(keyring().encode(plain)) == plain


def test_the_same_text_is_never_encrypted_the_same() -> None:
    assert keyring().encode(b"x") != keyring().encode(b"x")


def test_old_keys_still_decrypt_after_a_rotation() -> None:
    stored = keyring().encode(b"x")
    rotated = keyring("b", a=KEY, b=OTHER)
    assert rotated.decode(stored) == b"x"
    with pytest.raises(DecodeError, match="unknown key 'b'"):
        keyring().decode(rotated.encode(b"x"))


def test_a_wrong_key_is_told() -> None:
    with pytest.raises(DecodeError, match="cannot be decrypted with the key 'a'"):
        keyring(a=OTHER).decode(keyring().encode(b"x"))


def test_every_changed_or_missing_byte_is_noticed() -> None:
    stored = keyring("a", a=KEY, b=KEY).encode(b"plain")
    codec = keyring("a", a=KEY, b=KEY)
    for position in range(len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 3  # turns the key id `a` into `b`
        with pytest.raises(DecodeError):
            codec.decode(bytes(changed))
        with pytest.raises(DecodeError):
            codec.decode(stored[:position])


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = keyring().encode(b"x")
    monkeypatch.setenv(
        "PERDURE_KEYS", "b:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    )
    codec = AesGcmCodec.from_environment()
    assert codec.decode(stored) == b"x"
    assert keyring("b", b=OTHER).decode(codec.encode(b"y")) == b"y"


@pytest.mark.parametrize("text", ["", "a", "a:", "a:c2VjcmV0", "a:%%%", ":AAAA", "c2VjcmV0", "a:c2VjcmV0,a:c2VjcmV0"])
def test_bad_keys_in_the_environment_are_told_but_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KEYS", text)
    with pytest.raises(InvalidKeys) as caught:
        AesGcmCodec.from_environment("KEYS")
    assert caught.value.hint
    assert "c2VjcmV0" not in str(caught.value)


def test_keys_must_have_the_right_size_and_an_id() -> None:
    with pytest.raises(InvalidKeys, match="instead of 32"):
        AesGcmCodec({"a": b"short"}, "a")
    with pytest.raises(InvalidKeys, match="not among"):
        AesGcmCodec({"a": KEY}, "b")
    with pytest.raises(InvalidKeys, match="bytes"):
        AesGcmCodec({"": KEY}, "")
    assert len(AesGcmCodec.generate_key()) == 32
    assert AesGcmCodec.generate_key() != AesGcmCodec.generate_key()


def test_keys_do_not_show_in_the_repr() -> None:
    assert repr(keyring()) == "<AesGcmCodec with keys a>"


def test_a_missing_cryptography_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(PerdureError) as caught:
        AesGcmCodec({"a": KEY}, "a")
    assert 'pip install "perdure[encryption]"' in caught.value.hint
