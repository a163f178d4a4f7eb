"""Options from a file and from the environment: which one wins, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import Cli

from perdure.cli import settings
from perdure.cli.exits import UsageError

COMMANDS = {
    "worker": {"db": "db", "replicate": "replicate", "snapshot-every": "snapshot_every", "strict": "strict"},
    "list": {"db": "db", "limit": "limit"},
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PERDURE_"):
            monkeypatch.delenv(name)


def test_what_stands_outside_of_a_table_counts_for_all_that_have_it(tmp_path: Path) -> None:
    (tmp_path / "perdure.toml").write_text(
        'db = "shop.db"\n[worker]\nsnapshot-every = "6h"\nstrict = true\n[list]\ndb = "other.db"\nlimit = 3\n'
    )
    assert settings.load(COMMANDS, tmp_path) == {
        "worker": {"db": "shop.db", "snapshot_every": "6h", "strict": True},
        "list": {"db": "other.db", "limit": 3},
    }


def test_it_may_stand_in_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.perdure.worker]\nreplicate = "s3://b/p"\n')
    assert settings.load(COMMANDS, tmp_path) == {"worker": {"replicate": "s3://b/p"}}
    (tmp_path / "perdure.toml").write_text("")  # the nearer one counts, alone
    assert settings.load(COMMANDS, tmp_path) == {}


def test_a_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perdure.toml").write_text('db = "here.db"')
    (tmp_path / "mine.toml").write_text('db = "named.db"')
    monkeypatch.setenv("PERDURE_CONFIG", str(tmp_path / "mine.toml"))
    assert settings.load(COMMANDS, tmp_path)["list"] == {"db": "named.db"}
    monkeypatch.setenv("PERDURE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="cannot be read"):
        settings.load(COMMANDS, tmp_path)


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert settings.load(COMMANDS, tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    assert settings.load(COMMANDS, tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("broken")
    assert settings.load(COMMANDS, tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("db = ", "is not TOML"),
        ('data = "shop.db"', "no command has an option data"),
        ("[work]\nstrict = true", "there is no command work"),
        ('[list]\nreplicate = "s3://b/p"', "list has no option replicate"),
        ('[worker]\nreplicate = ["s3://b/p"]', "worker.replicate must be a text"),
        ('[worker]\naws_secret_access_key = "hunter2"', "worker has no option aws_secret_access_key"),
    ],
)
def test_a_mistake_is_an_error_that_shows_no_value(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "perdure.toml").write_text(text)
    with pytest.raises(UsageError, match=says) as raised:
        settings.load(COMMANDS, tmp_path)
    assert "hunter2" not in f"{raised.value}{raised.value.hint}"
    assert ("AWS_PROFILE" in (raised.value.hint or "")) == ("key" in text)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(cli: Cli) -> None:
    for name in ("file", "variable", "option"):
        cli("run", "shop.py:double", "--id", name, "--db", f"{name}.db")
    (cli.folder / "perdure.toml").write_text('db = "file.db"\n')

    def listed(*arguments: str, **environment: str) -> str:
        done = cli.apart("list", "--json", *arguments, **environment)
        (line,) = done.out.splitlines()
        return line

    assert '"id":"file"' in listed()
    assert '"id":"variable"' in listed(PERDURE_DB="variable.db")
    assert '"id":"option"' in listed("--db", "option.db", PERDURE_DB="variable.db")


def test_a_mistake_ends_a_command_with_a_line(cli: Cli) -> None:
    (cli.folder / "perdure.toml").write_text("[worker]\nreplica = 1\n")
    done = cli.apart("list")
    assert done.code == 2
    assert done.err.startswith("error: perdure.toml: worker has no option replica\nhint: it has ")


def test_a_worker_takes_all_its_options_from_elsewhere(cli: Cli) -> None:
    """That they get there is seen by what is refused."""
    (cli.folder / "perdure.toml").write_text('[worker]\nreplicate = "s3://u:p@bucket/shop"\ngrace = 3\n')
    done = cli.apart("worker", "shop.py")
    assert done.code == 2
    assert "keys do not belong in a URL" in done.err
    assert "u:p" not in done.err
    for name, value, says in (
        ("PERDURE_REPLICATE", "ftp://bucket", "replicas go to s3://"),
        ("PERDURE_REPLICA_LATE", "never", "--replica-late is fail or go-on, not never"),
        ("PERDURE_DURABILITY", "high", "--durability is local or replicated, not high"),
        ("PERDURE_LAG_ALARM", "soon", "'soon' is not a duration"),
        ("PERDURE_UPLOAD_EVERY", "0", "interval_s must be more than 0"),
    ):
        rest = {} if name == "PERDURE_REPLICATE" else {"PERDURE_REPLICATE": f"file://{cli.folder}/bucket"}
        done = cli.apart("worker", "shop.py", **{name: value, **rest})
        assert (done.code, says in done.err) == (2, True), (name, done.err)
