"""Keys come from the usual AWS places in the usual order, and stay out of sight. Seen at a server that is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import scripted_server

from perdure.replication import credentials
from perdure.replication.bucket import Bucket
from perdure.replication.credentials import CredentialsMissing
from perdure.replication.target import Target

SECRETS = ("secret-e", "secret-p", "secret-d", "token-p")


class Asked:
    """A server that remembers who asked, and where."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        found = re.search(r"Credential=([^/]+)/\d+/([^/]+)/", headers.get("Authorization", ""))
        who = f"{found[1]}@{found[2]}" if found else "nobody"
        token = headers.get("x-amz-security-token")
        self.requests.append((path, who + (f"+{token}" if token else "")))
        return 404, ""

    def who(self, query: str = "") -> str:
        """Ask for an object, and give who did."""
        target = Target.parse(f"s3://shop/a?endpoint={self.endpoint}{query}")
        assert asyncio.run(Bucket.open(target).get("x")) is None
        return self.requests[-1][1]


@pytest.fixture
def asked() -> Iterator[Asked]:
    server = Asked()
    with scripted_server(server.answer) as server.endpoint:
        yield server


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Credentials files, and no keys in the environment."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = key-d\naws_secret_access_key = secret-d\n"
        "[p]\naws_access_key_id=key-p\naws_secret_access_key=secret-p\naws_session_token=token-p\n"
        "[half]\naws_access_key_id = key-h\n"
    )
    config = tmp_path / "config"
    config.write_text(
        "[default]\nregion = eu-west-1\n[profile p]\nregion = eu-west-2\n"
        "[profile sso]\nsso_session = corp\n[profile empty]\nregion = eu-west-3\n"
        "[profile nested]\naws_access_key_id = key-n\naws_secret_access_key = secret-n\ns3 =\n    max_queue_size = 9\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return path


def test_the_environment_comes_first(asked: Asked, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-e")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-e")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-e")
    assert asked.who() == "key-e@eu-west-1+token-e"


def test_then_the_profile(asked: Asked, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked.who() == "key-d@eu-west-1"
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert asked.who() == "key-p@eu-west-2+token-p"
    assert asked.who("&region=us-west-1") == "key-p@us-west-1+token-p"
    monkeypatch.setenv("AWS_PROFILE", "nested")
    assert asked.who() == "key-n@us-east-1"


def test_keys_that_are_rotated_in_the_file_are_picked_up(
    asked: Asked, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REFRESH", credentials.REFRESH * 0)
    bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={asked.endpoint}"))
    asyncio.run(bucket.get("x"))
    profiles.write_text(profiles.read_text().replace("key-d", "key-new"))
    asyncio.run(bucket.get("x"))
    assert [who for _, who in asked.requests] == ["key-d@eu-west-1", "key-new@eu-west-1"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"AWS_PROFILE": "empty"}, "no keys"),
        ({"AWS_PROFILE": "half"}, "only one of"),
        ({"AWS_PROFILE": "absent"}, "'absent'"),
        ({"AWS_PROFILE": "empty", "AWS_ACCESS_KEY_ID": "key-e"}, "only one of AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_is_missing_is_said(
    profiles: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], said: str
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsMissing, match=said) as caught:
        Target.parse("s3://shop/a?endpoint=http://127.0.0.1:1").store()
    assert caught.value.hint


def test_a_profile_that_takes_more_than_a_file_is_left_to_boto3(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "sso")
    monkeypatch.setitem(__import__("sys").modules, "obstore.auth.boto3", None)  # as if boto3 were not installed
    with pytest.raises(CredentialsMissing, match="SSO") as caught:
        credentials.provider(on_aws=True)
    assert "pip install boto3" in caught.value.hint


def test_a_damaged_file_is_not_quoted(profiles: Path) -> None:
    profiles.write_text("[default]\nsecret-d\n")
    with pytest.raises(CredentialsMissing, match="ParsingError") as caught:
        credentials.profile()
    assert "secret-d" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_role_of_the_machine_is_for_aws_only(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "empty")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    assert credentials.provider(on_aws=True) is None
    with pytest.raises(CredentialsMissing):
        credentials.provider(on_aws=False)


@pytest.mark.parametrize("name", ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"])
def test_what_obstore_knows_is_left_to_it(profiles: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AWS_PROFILE", "empty")
    monkeypatch.setenv(name, "/run/token")
    assert credentials.provider(on_aws=False) is None


def test_no_variable_of_obstore_overrides_the_url(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_BUCKET", "other")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert asked.who("&region=eu-west-2").endswith("@eu-west-2")
    assert asked.requests[-1][0] == "/shop/a/x"


def test_nothing_shows_the_keys(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "p")
    target = Target.parse("s3://shop/a?endpoint=http://127.0.0.1:1")
    bucket = Bucket.open(target)
    with pytest.raises(Exception, match="could not") as caught:
        asyncio.run(bucket.create("x", b""))
    shown = [repr(target), str(target), target.url, repr(bucket.store), str(target.litestream()), repr(caught.value)]
    shown += [target.litestream_url(), str(caught.value)]
    assert not [secret for secret in SECRETS for text in shown if secret in text]
