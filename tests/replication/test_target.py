"""Replica URLs: what they mean, what is refused, and that no secret gets through them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perdure.replication.credentials import CredentialsMissing
from perdure.replication.target import InvalidTarget, ObstoreMissing, Target


@pytest.mark.parametrize(
    ("url", "bucket", "prefix", "endpoint", "region", "path_style"),
    [
        ("s3://shop/a/b", "shop", "a/b", None, None, False),
        ("s3://shop", "shop", "", None, None, False),
        ("s3://shop//a///b/", "shop", "a/b", None, None, False),
        ("s3://my.shop/a", "my.shop", "a", None, None, True),
        ("s3://shop/a?region=eu-west-1", "shop", "a", None, "eu-west-1", False),
        ("s3://shop/a?endpoint=http://127.0.0.1:9000", "shop", "a", "http://127.0.0.1:9000", None, True),
        ("s3://shop/a?endpoint=https://s3.example.com/", "shop", "a", "https://s3.example.com", None, True),
        ("s3://shop/a?endpoint=http%3A%2F%2F[::1]:9000", "shop", "a", "http://[::1]:9000", None, True),
        ("s3://shop/a?path_style=true", "shop", "a", None, None, True),
        ("s3://shop/a?endpoint=https://x.io&path_style=false", "shop", "a", "https://x.io", None, False),
    ],
)
def test_s3_urls(
    url: str, bucket: str, prefix: str, endpoint: str | None, region: str | None, path_style: bool
) -> None:
    target = Target.parse(url)
    assert target == Target("s3", bucket, prefix, endpoint, region, path_style)
    assert Target.parse(target.url) == target


def test_file_urls(tmp_path: Path) -> None:
    target = Target.parse(f"file://{tmp_path}//a%20b/./shop/")
    assert target == Target("file", "", f"{tmp_path}/a b/shop")
    assert Target.parse(target.url) == target


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shop.db", "plain path"),
        ("", "plain path"),
        ("gs://bucket/a", "gs://"),
        ("https://s3.amazonaws.com/bucket", "https://"),
        ("S3://bucket/a", "S3://"),
        ("s3:///a", "bucket"),
        ("s3://-/a", "bucket"),
        ("s3://b..b/a", "bucket"),
        ("s3://localhost:9000/bucket/a", "without a port"),
        ("s3://bucket/a/../b", "no .."),
        ("s3://bucket/a/./b", "no .."),
        ("s3://bucket/a b", "spaces"),
        ("s3://bucket/a\nb", "control"),
        ("s3://bucket/a\\b", "backslashes"),
        ("s3://bucket/a%2e%2e/b", "letters"),
        ("s3://bucket/a*", "letters"),
        ("s3://bucket/schüssel", "letters"),
        ("s3://bucket/" + "a" * 513, "512"),
        ("s3://bucket/a#b", "#"),
        ("s3://bucket/a#", "#"),
        ("s3://bucket/a?region=eu&region=us", "twice"),
        ("s3://bucket/a?region=", "empty"),
        ("s3://bucket/a?region=eu/west", "region"),
        ("s3://bucket/a?path_style=yes", "path_style"),
        ("s3://bucket/a?pathstyle=true", "pathstyle"),
        ("s3://bucket/a?endpoint=127.0.0.1:9000", "endpoint"),
        ("s3://bucket/a?endpoint=http://h/bucket", "endpoint"),
        ("s3://bucket/a?endpoint=ftp://h", "endpoint"),
        ("s3://bucket/a?endpoint=http://h:1?x", "endpoint"),
        ("file://relative/path", "absolute"),
        ("file:///", "absolute"),
        ("file:///a/../../etc", "no .."),
        ("file:///a/%2e%2e/etc", "no .."),
        ("file:///a%00b", "control"),
        ("file:///a?region=x", "no parameters"),
    ],
)
def test_what_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidTarget, match=said) as caught:
        Target.parse(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hunter2@bucket/a",
        "s3://bucket/a?access_key_id=AKIAKEY&secret_access_key=hunter2",
        "s3://bucket/a?secret=hunter2",
        "s3://bucket/a?hunter2",
        "s3://bucket/a?endpoint=https://AKIAKEY:hunter2@host",
        "s3://bucket/a?endpoint=https://host/?secret=hunter2",
        "https://AKIAKEY:hunter2@host/bucket",
        "file://AKIAKEY:hunter2@/a",
    ],
)
def test_keys_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidTarget) as caught:
        Target.parse(url)
    assert "hunter2" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_what_a_url_leaves_open_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://all.example.com")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert Target.parse("s3://shop/a") == Target("s3", "shop", "a", "https://all.example.com", "eu-west-2", True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Target.parse("s3://shop/a") == Target("s3", "shop", "a", "https://s3.example.com", "eu-west-1", True)
    explicit = Target.parse("s3://shop/a?endpoint=http://h:1&region=x")
    assert (explicit.endpoint, explicit.region) == ("http://h:1", "x")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert Target.parse("s3://shop/a").endpoint is None


def test_what_a_url_leaves_open_comes_from_the_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = us-west-2\n[profile b]\nregion = eu-north-1\nendpoint_url = https://b.io\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert Target.parse("s3://shop/a").region == "us-west-2"
    monkeypatch.setenv("AWS_PROFILE", "b")
    assert Target.parse("s3://shop/a") == Target("s3", "shop", "a", "https://b.io", "eu-north-1", True)
    monkeypatch.setenv("AWS_PROFILE", "c")
    with pytest.raises(CredentialsMissing, match="'c'"):
        Target.parse("s3://shop/a")


def test_children() -> None:
    target = Target.parse("s3://shop/a")
    assert target.child("b/c").prefix == "a/b/c"
    assert target.child(7).prefix == "a/00000007"
    assert Target.parse("s3://shop").child("b").prefix == "b"
    assert Target.parse("file:///srv/a").child(7).prefix == "/srv/a/00000007"
    for name in ("", "/", "../b", "b c"):
        with pytest.raises(InvalidTarget):
            target.child(name)


def test_what_litestream_is_told() -> None:
    assert Target.parse("file:///srv/a").litestream() == {"type": "file", "path": "/srv/a"}
    assert Target.parse("file:///srv/a%20b").litestream_url() == "file:///srv/a%20b"
    assert Target.parse("s3://shop/a").litestream() == {
        "type": "s3", "bucket": "shop", "path": "a", "force-path-style": False,
    }  # fmt: skip
    target = Target.parse("s3://shop/a?endpoint=http://127.0.0.1:9000&region=eu-west-1")
    assert target.litestream() == {
        "type": "s3", "bucket": "shop", "path": "a", "endpoint": "http://127.0.0.1:9000", "region": "eu-west-1",
        "force-path-style": True,
    }  # fmt: skip
    assert target.litestream_url() == (
        "s3://shop/a?endpoint=http://127.0.0.1:9000&region=eu-west-1&forcePathStyle=true"
    )
    # A role of the machine signs requests to AWS only.
    assert target.credentials() == {"AWS_EC2_METADATA_DISABLED": "true"}
    assert Target.parse("s3://shop/a").credentials() == {}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)  # as if it were not installed
    with pytest.raises(ObstoreMissing) as caught:
        Target.parse("s3://shop/a").store()
    assert "pip install" in caught.value.hint


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidTarget, match="cannot be used"):
        Target.parse(f"file://{tmp_path}/file/shop").store()
