"""A fresh database for each test, in every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_backends import BACKENDS, Backend

from perdure.codec.payload import Payloads
from perdure.store import Store

OpenStore = Callable[..., Store]


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def open_store(backend: Backend) -> Iterator[OpenStore]:
    """Open stores on one database; each is what another process would have."""
    opened: list[Store] = []

    def open_one(payloads: Payloads | None = None) -> Store:
        opened.append(backend.open(payloads))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def runner(open_store: OpenStore) -> Store:
    """A store that is the runner's."""
    store = open_store()
    store.become_runner("the runner")
    return store
