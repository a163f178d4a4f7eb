"""Side effects are refused while workflow code runs, and what it needs unasked is not.

Audit hooks cannot be removed, so one inert hook with a flag of its own serves all tests here; `install` itself is
tested in a process of its own.
"""

from __future__ import annotations

import _thread
import ftplib
import gc
import glob
import http.client
import importlib
import linecache
import logging
import os
import pathlib
import shutil
import smtplib
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import urllib.request
import warnings
import weakref
import webbrowser
import zoneinfo
from collections.abc import Callable, Iterator

import pytest

from perdure.errors import NonDeterminismError
from perdure.guard.audit import AuditHook, announced


class Flag:
    """Stands for the engine: says whether workflow code runs in this thread now."""

    def __init__(self) -> None:
        self.on = False
        self.asked = 0

    def __call__(self) -> Flag | None:
        self.asked += 1
        return self if self.on else None

    def refused(self, error: NonDeterminismError) -> NonDeterminismError:
        return error


@pytest.fixture(scope="module")
def hooked() -> Flag:
    flag = Flag()
    sys.addaudithook(AuditHook(flag).hook())
    return flag


@pytest.fixture
def workflow(hooked: Flag) -> Iterator[Callable[[Callable[[], object]], object]]:
    """Return `workflow(act)`: runs `act` as workflow code."""

    def run(act: Callable[[], object]) -> object:
        hooked.on = True
        try:
            return act()
        finally:
            hooked.on = False

    yield run
    hooked.on = False


def read(path: str | int, mode: str = "r") -> str:
    with open(path, mode, closefd=not isinstance(path, int)) as file:
        return file.read()


NOWHERE = "/nowhere/at/all"
HERE = os.path.abspath(__file__)
UDP = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

REFUSED = {
    "open": lambda: read(HERE),
    "open for writing": lambda: read(NOWHERE, "w"),
    "os.open": lambda: os.open(HERE, os.O_RDONLY),
    "Path.read_text": lambda: pathlib.Path(HERE).read_text(),
    "Path.touch": lambda: pathlib.Path(NOWHERE).touch(),
    "Path.iterdir": lambda: list(pathlib.Path(NOWHERE).iterdir()),
    "Path.glob": lambda: list(pathlib.Path(NOWHERE).glob("*")),
    "os.listdir": lambda: os.listdir("/"),
    "os.scandir": lambda: os.scandir("/"),
    "os.walk": lambda: list(os.walk("/")),
    "os.mkdir": lambda: os.mkdir(NOWHERE),
    "os.makedirs": lambda: os.makedirs(NOWHERE),
    "os.remove": lambda: os.remove(NOWHERE),
    "os.unlink": lambda: os.unlink(NOWHERE),
    "os.rename": lambda: os.rename(NOWHERE, NOWHERE),
    "os.replace": lambda: os.replace(NOWHERE, NOWHERE),
    "os.rmdir": lambda: os.rmdir(NOWHERE),
    "os.chmod": lambda: os.chmod(NOWHERE, 0),
    "os.chown": lambda: os.chown(NOWHERE, 0, 0),
    "os.link": lambda: os.link(NOWHERE, NOWHERE),
    "os.symlink": lambda: os.symlink(NOWHERE, NOWHERE),
    "os.truncate": lambda: os.truncate(NOWHERE, 0),
    "os.utime": lambda: os.utime(NOWHERE),
    "os.chdir": lambda: os.chdir("/"),
    "os.putenv": lambda: os.environ.update(PERDURE_GUARD_TEST="1"),
    "os.unsetenv": lambda: os.unsetenv("PERDURE_GUARD_TEST"),
    "os.system": lambda: os.system("true"),
    "os.popen": lambda: os.popen("true"),
    "os.execv": lambda: os.execv(NOWHERE, ["x"]),
    "os.execvp": lambda: os.execvp("nowhere-at-all", ["x"]),
    "os.fork": lambda: os.fork() or os._exit(0),
    "os.spawnv": lambda: os.spawnv(os.P_WAIT, NOWHERE, ["x"]),
    "os.posix_spawn": lambda: os.posix_spawn(NOWHERE, ["x"], {}),
    "os.kill": lambda: os.kill(os.getpid(), 0),
    "subprocess.run": lambda: subprocess.run(["true"], check=False),
    "shutil.copy": lambda: shutil.copy(NOWHERE, NOWHERE),
    "shutil.copytree": lambda: shutil.copytree(NOWHERE, NOWHERE),
    "shutil.move": lambda: shutil.move(NOWHERE, NOWHERE),
    "shutil.rmtree": lambda: shutil.rmtree(NOWHERE),
    "shutil.make_archive": lambda: shutil.make_archive(NOWHERE, "zip"),
    "tempfile.mkstemp": tempfile.mkstemp,
    "tempfile.mkdtemp": tempfile.mkdtemp,
    "glob.glob": lambda: glob.glob("/nowhere*"),
    "socket.socket": socket.socket,
    "socket.connect": lambda: UDP.connect(("127.0.0.1", 9)),
    "socket.bind": lambda: UDP.bind(("127.0.0.1", 0)),
    "socket.sendto": lambda: UDP.sendto(b"", ("127.0.0.1", 9)),
    "socket.getaddrinfo": lambda: socket.getaddrinfo("127.0.0.1", 9),
    "socket.gethostbyname": lambda: socket.gethostbyname("127.0.0.1"),
    "socket.gethostname": socket.gethostname,
    "socket.create_connection": lambda: socket.create_connection(("127.0.0.1", 9)),
    "sqlite3.connect": lambda: sqlite3.connect(":memory:"),
    "urllib.request": lambda: urllib.request.urlopen("http://127.0.0.1:9/"),
    "http.client": lambda: http.client.HTTPConnection("127.0.0.1", 9).request("GET", "/"),
    "ftplib": lambda: ftplib.FTP("127.0.0.1"),
    "smtplib": lambda: smtplib.SMTP("127.0.0.1"),
    "webbrowser": lambda: webbrowser.GenericBrowser("true").open("about:blank"),
}
SINCE_3_12 = {
    "_thread.start_new_thread": lambda: _thread.start_new_thread(print, ()),
    "threading.Thread": lambda: threading.Thread(target=print).start(),
}
SINCE_3_13 = {"time.sleep": lambda: time.sleep(0)}
if sys.version_info >= (3, 12):
    REFUSED |= SINCE_3_12
if sys.version_info >= (3, 13):
    REFUSED |= SINCE_3_13


@pytest.mark.parametrize("act", REFUSED.values(), ids=REFUSED)
def test_a_side_effect_is_refused_in_workflow_code(workflow, act: Callable[[], object]) -> None:
    with pytest.raises(NonDeterminismError):
        workflow(act)


@pytest.mark.parametrize(
    "act",
    [
        lambda: read(HERE),
        lambda: os.listdir("/"),
        lambda: sqlite3.connect(":memory:").close(),
        lambda: socket.getaddrinfo("127.0.0.1", 9),
        lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        lambda: time.sleep(0),
    ],
)
def test_outside_workflow_code_nothing_is_refused(hooked: Flag, act: Callable[[], object]) -> None:
    act()
    assert not hooked.on


def test_an_uninteresting_event_does_not_even_ask(hooked: Flag) -> None:
    before = hooked.asked
    compile("1", "<test>", "eval")
    sys.audit("perdure.test", 1)
    assert hooked.asked == before


def test_the_error_names_the_call_the_place_and_the_way_out(workflow) -> None:
    with pytest.raises(NonDeterminismError) as raised:
        workflow(lambda: pathlib.Path("/etc/hostname").read_text())
    line = raised.traceback[0].lineno + 1  # of the call above; the lambda is on it
    assert f"open('/etc/hostname') in workflow code, at {__file__}:{line}\n" in str(raised.value)
    assert "write an @activity that does it and call that" in raised.value.hint


def test_the_error_does_not_tell_the_query_of_a_url(workflow) -> None:
    with pytest.raises(NonDeterminismError, match=r"urllib\.Request\('http://127\.0\.0\.1:9/x'\)"):
        workflow(lambda: urllib.request.urlopen("http://127.0.0.1:9/x?token=secret"))


def test_refusing_a_sleep_says_how_to_sleep_durably(workflow) -> None:
    sleep = time.sleep if sys.version_info >= (3, 13) else announced(time.sleep)
    with pytest.raises(NonDeterminismError) as raised:
        workflow(lambda: sleep(0))
    assert "perdure.sleep()" in raised.value.hint


# --- what workflow code may do ----------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> Callable[[str], str]:
    """Return `fresh(source)`: writes a module that is not imported yet and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def fresh(source: str) -> str:
        name = f"audited_sample_{abs(hash(source))}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return fresh


def test_imports_work_with_all_that_the_module_does_on_import(workflow, fresh, monkeypatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    name = fresh("import os, tempfile\nwith open(__file__) as file: TEXT = file.read()\nos.listdir('.')\n")
    assert "TEXT" in workflow(lambda: importlib.import_module(name)).TEXT
    other = fresh("VALUE = 7\n")
    assert workflow(lambda: __import__(other)).VALUE == 7


def test_what_an_imported_module_does_later_is_refused(workflow, fresh) -> None:
    module = importlib.import_module(fresh("def read(path):\n    return open(path)\n"))
    with pytest.raises(NonDeterminismError, match=rf"{module.__name__}\.py:2"):
        workflow(lambda: module.read(HERE))


def test_a_module_of_the_users_own_is_not_excused_by_its_name(workflow, tmp_path) -> None:
    path = tmp_path / "code.py"
    path.write_text("def read(path): return open(path)\n")
    namespace = {"__name__": "code.flows"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    with pytest.raises(NonDeterminismError):
        workflow(lambda: namespace["read"](HERE))


def test_logging_works_also_into_a_file_and_through_a_handler_of_the_users(workflow, tmp_path) -> None:
    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with open(tmp_path / "own.log", "a") as file:
                file.write(record.getMessage())

    logger = logging.getLogger("perdure.test.guard")
    handlers = [logging.FileHandler(tmp_path / "flow.log", delay=True), Own()]
    for handler in handlers:
        logger.addHandler(handler)
    try:
        workflow(lambda: logger.error("told", stack_info=True))
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    assert "told" in (tmp_path / "flow.log").read_text()
    assert (tmp_path / "own.log").read_text() == "told"


def test_print_tracebacks_and_warnings_work(workflow, capsys) -> None:
    def act() -> str:
        linecache.clearcache()
        print("printed")
        try:
            raise ValueError
        except ValueError:
            return traceback.format_exc()

    assert "raise ValueError" in workflow(act)
    linecache.clearcache()
    assert "Side effects" in workflow(lambda: warnings.formatwarning("warned", UserWarning, HERE, 1))
    assert capsys.readouterr().out == "printed\n"


def test_terminals_and_open_descriptors_may_be_opened(workflow, tmp_path) -> None:
    (tmp_path / "x").write_text("text")
    descriptor = os.open(tmp_path / "x", os.O_RDONLY)
    workflow(lambda: read(os.devnull))
    assert workflow(lambda: read(descriptor)) == "text"
    os.close(descriptor)


def test_time_zones_may_be_loaded(workflow) -> None:
    zoneinfo.ZoneInfo.clear_cache()
    try:
        zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("no time zone data on this machine")
    zoneinfo.ZoneInfo.clear_cache()
    assert workflow(lambda: zoneinfo.ZoneInfo("Europe/Berlin")).key == "Europe/Berlin"


def test_finalizers_that_happen_to_run_now_may_clean_up(workflow, tmp_path) -> None:
    class Holder:
        def __del__(self) -> None:
            os.remove(tmp_path / "held")

    def act() -> None:
        nonlocal holder, temporary
        holder = temporary = None
        gc.collect()

    (tmp_path / "held").touch()
    (tmp_path / "final").touch()
    holder, temporary = Holder(), type("Temporary", (), {})()
    weakref.finalize(temporary, os.remove, tmp_path / "final")
    workflow(act)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ours() -> dict[str, Callable[..., object]]:
    """Return functions that stand for perdure's own: compiled as if from a file of its package."""
    package = os.path.dirname(os.path.dirname(sys.modules["perdure.guard.audit"].__file__))
    code = "import pathlib\ndef call(f): return f()\ndef load(p): return pathlib.Path(p).read_text()\n"
    namespace: dict[str, Callable[..., object]] = {}
    exec(compile(code, os.path.join(package, "engine", "imagined.py"), "exec"), namespace)
    return namespace


def test_perdure_may_act_for_itself_and_not_for_the_workflow(workflow, ours) -> None:
    assert workflow(lambda: ours["load"](HERE))
    with pytest.raises(NonDeterminismError):
        workflow(lambda: ours["call"](lambda: read(HERE)))


def test_an_import_that_runs_the_engine_does_not_excuse_the_workflow(workflow, ours, fresh, monkeypatch) -> None:
    def main() -> None:
        ours["call"](lambda: workflow(lambda: read(HERE)))

    monkeypatch.setattr("builtins.perdure_test_main", main, raising=False)
    with pytest.raises(NonDeterminismError):
        importlib.import_module(fresh("perdure_test_main()\n"))


# --- install ----------------------------------------------------------------------------------------------------------


def test_install_is_once_per_process() -> None:
    program = """
        from perdure.errors import InternalError, NonDeterminismError
        from perdure.guard.audit import install

        class Engine:
            running = False
            def current(self): return self if self.running else None
            def refused(self, error): return error
            def __eq__(self, other): return self is other
            __hash__ = None

        engine = Engine()
        install(engine.current)
        install(engine.current)
        open(__file__).close()
        engine.running = True
        try:
            open(__file__)
        except NonDeterminismError as error:
            print(error)
        engine.running = False
        try:
            install(lambda: True)
        except InternalError:
            print("refused")
        open(__file__).close()
    """
    source = os.path.dirname(os.path.dirname(os.path.dirname(sys.modules["perdure.guard.audit"].__file__)))
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(textwrap.dedent(program))
        file.flush()
        ran = subprocess.run(
            [sys.executable, file.name], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
        )
    assert ran.stderr == ""
    assert f"{file.name}:18" in ran.stdout
    assert ran.stdout.endswith("refused\n")
