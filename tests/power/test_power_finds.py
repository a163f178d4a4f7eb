"""The power cuts find what they are there to find: each of these is a bug that loses something, put in by hand."""

from __future__ import annotations

import re

import pytest
from power_campaign import FULL, NORMAL, Campaign
from power_recorder import Recorder

from perdure.engine.outcomes import Outcomes
from perdure.engine.runner import Runner
from perdure.store.sqlite import SqliteStore, store

CUTS = 120
TRIES = 12


def assert_found(words: str, seed: str, kept, setting=FULL) -> None:
    """Run campaigns until one says what it should; the same bug shows in several ways."""
    said = []
    for number in range(TRIES):
        try:
            Campaign(f"{seed} {number}", setting, kept).run(CUTS)
        except AssertionError as error:
            said.append(str(error))
            if re.search(words, said[-1]):
                return
    raise AssertionError(f"{words} was not found, but {said}")


@pytest.mark.parametrize("level", ["normal", "off"])
def test_commits_that_are_not_synced(level, seed, tmp_path, monkeypatch):
    ours = store.open_connection
    monkeypatch.setattr(store, "open_connection", lambda path, synchronous="full", **rest: ours(path, level, **rest))
    assert_found("lost is|damaged", seed, tmp_path)


def test_a_disk_that_does_not_write_the_log_when_it_says_so(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "lies", staticmethod(lambda name: name.endswith("-wal")))
    assert_found("lost is", seed, tmp_path)


@pytest.mark.parametrize("setting", [FULL, NORMAL], ids=["full", "normal"])
def test_a_disk_that_does_not_write_the_database_when_it_says_so(setting, seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "lies", staticmethod(lambda name: name.endswith(".db")))
    assert_found("not sound|never in the file|damaged", seed, tmp_path, setting)


def test_a_folder_that_is_not_synced(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "lies", staticmethod(lambda name: not name))
    assert_found("lost is", seed, tmp_path)


def test_effects_and_answers_that_come_before_their_commit(seed, tmp_path, monkeypatch):
    commit = SqliteStore.commit
    runners = []
    recover = Runner.recover
    monkeypatch.setattr(Runner, "recover", lambda self: (runners.append(self), recover(self)))

    def late(self, batch):
        runners[-1].effects.let_out(runners[-1].work)
        commit(self, batch)

    monkeypatch.setattr(SqliteStore, "commit", late)
    assert_found("was said, and was not in the file", seed, tmp_path)


def test_an_attempt_that_is_taken_for_one_that_never_ran(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Outcomes, "_may_have_run", lambda *attempt: False)
    assert_found("an attempt ran twice", seed, tmp_path)
