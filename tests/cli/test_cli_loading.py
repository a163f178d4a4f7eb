"""Finding the user's code, and saying what is wrong with it."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.py", "x = 1", "empty.py has no workflow"),
        ("exits.py", "import sys; sys.exit(3)", "ended the process while it was imported (exit code 3)"),
        ("not-a-name.py", "", "its name is not a Python name"),
        ("json.py", "from perdure import workflow", "the module name json of"),
        ("twice.py", "from shop import double\nimport perdure\n@perdure.workflow(name='double')\ndef f(): ...",
         "two workflows are named double"),
    ],
)  # fmt: skip
def test_code_that_cannot_be_used_is_code_2_with_a_hint(cli, name, text, message):
    (cli.folder / name).write_text(text)
    done = cli("worker", name)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_error_in_the_users_code_shows_the_users_part_of_the_traceback(cli):
    (cli.folder / "bad.py").write_text("def f():\n    return 1 / 0\nf()\n")
    done = cli("worker", "bad.py")
    assert done.code == 2
    assert "return 1 / 0" in done.err
    assert "error: bad.py cannot be imported: ZeroDivisionError: division by zero" in done.err
    assert "importlib" not in done.err
    assert "perdure" not in done.err.partition("Traceback")[2].partition("error: ")[0]


def test_a_syntax_error_shows_its_line(cli):
    (cli.folder / "bad.py").write_text("def f(:\n")
    done = cli("worker", "bad.py")
    assert done.code == 2
    assert "SyntaxError" in done.err


def test_a_missing_import_inside_a_module_is_not_a_missing_module(cli):
    (cli.folder / "bad.py").write_text("import nothing_like_it")
    assert "ModuleNotFoundError: No module named 'nothing_like_it'" in cli("worker", "bad").err
    assert "there is no module nowhere" in cli("worker", "nowhere.orders").err
    assert "there is no file nowhere.py" in cli("worker", "nowhere.py").err


def test_a_file_in_a_package_is_imported_as_part_of_it(cli):
    package = cli.folder / "code" / "firm" / "jobs"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("word = 'firm'")
    (package / "flow.py").write_text(
        "from perdure import workflow\nfrom .words import word\n\n@workflow\nasync def where() -> str:\n"
        "    return word + ' ' + __name__\n"
    )
    done = cli("run", "code/firm/jobs/flow.py:where")
    assert done.out == '"firm firm.jobs.flow"\n', done.err
    assert cli("run", "firm.jobs.flow:where", PYTHONPATH="code").out == '"firm firm.jobs.flow"\n'


def test_a_workflow_is_found_by_its_own_name_and_in_a_namespace(cli):
    (cli.folder / "named.py").write_text(
        "from perdure import workflow\n\nclass Jobs:\n    @staticmethod\n    @workflow(name='jobs.one')\n"
        "    async def one() -> int:\n        return 1\n\n"
        "@workflow(name='two')\nasync def second() -> int:\n    return 2\n"
    )
    assert cli("run", "named.py:Jobs.one").out == "1\n"
    assert cli("run", "named.py:two").out == "2\n"
    assert cli("run", "named.py").out == "2\n"
