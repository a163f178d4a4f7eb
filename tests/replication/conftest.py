"""What the tests of replication share: S3 servers, and an AWS environment that is not the developer's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from servers import KEY, SECRET, S3Server, moto_server, rclone_server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """An S3 that honours conditional writes."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 that checks signatures and ignores conditional writes."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def bucket_name() -> str:
    """The name of a bucket that no other test uses."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The keys of the test servers, and nothing of the developer's: no profile, no region, no role of the machine."""
    for name in os.environ:
        if name.startswith(("AWS_", "LITESTREAM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
