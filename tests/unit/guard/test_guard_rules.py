"""Each rule fires for what it names, and not for its near misses."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from perdure.guard.rules import FINE, RULES
from perdure.guard.static import inspect_function


def targets(write, source: str) -> list[str]:
    """Return what is found in `wf`: the body's last line is an expression after some imports."""
    *imports, expression = source.split("; ")
    module = write("\n".join([*imports, "def wf(x=None, y=None):", f"    {expression}", ""]))
    return [finding.target for finding in inspect_function(module.wf)]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import time; time.time()", "time.time"),
        ("import time; time.time_ns()", "time.time_ns"),
        ("import time; time.sleep(1)", "time.sleep"),
        ("import time; time.monotonic()", "time.monotonic"),
        ("import time; time.perf_counter()", "time.perf_counter"),
        ("import time; time.perf_counter_ns()", "time.perf_counter_ns"),
        ("import time; time.localtime()", "time.localtime"),
        ("import time; time.gmtime(None)", "time.gmtime"),
        ("import time; time.strftime('%Y')", "time.strftime"),
        ("import datetime; datetime.datetime.now()", "datetime.datetime.now"),
        ("import datetime; datetime.datetime.now(datetime.UTC)", "datetime.datetime.now"),
        ("import datetime; datetime.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("import datetime; datetime.datetime.today()", "datetime.date.today"),
        ("import datetime; datetime.date.today()", "datetime.date.today"),
        ("import random; random.random()", "random.random"),
        ("import random; random.choice([1])", "random.choice"),
        ("import random; random.shuffle(x)", "random.shuffle"),
        ("import random; random.seed(1)", "random.seed"),
        ("import random; random.Random()", "random.Random"),
        ("import random; random.Random(None)", "random.Random"),
        ("import random; random.SystemRandom()", "random.SystemRandom"),
        ("import secrets; secrets.token_hex()", "secrets.token_hex"),
        ("import uuid; uuid.uuid1()", "uuid.uuid1"),
        ("import uuid; uuid.uuid4()", "uuid.uuid4"),
        ("import uuid; str(uuid.uuid4().hex)", "uuid.uuid4"),
        ("import os; os.environ['HOME']", "os.environ"),
        ("import os; os.environ.get('HOME')", "os.environ"),
        ("import os; os.getenv('HOME')", "os.getenv"),
        ("import os; os.urandom(3)", "os.urandom"),
        ("import os; os.getpid()", "os.getpid"),
        ("import os; os.path.exists('x')", "os.path.exists"),
        ("import os; os.listdir('x')", "os.listdir"),
        ("import os; os.system('true')", "os.system"),
        ("import os; os.popen('true')", "os.popen"),
        ("import io; io.open('x')", "open"),
        ("open('x')", "open"),
        ("input()", "input"),
        ("hash('a')", "hash"),
        ("id(x)", "id"),
        ("import pathlib; pathlib.Path('x').read_text()", "pathlib.Path.read_text"),
        ("import pathlib; (pathlib.Path('x') / 'y').write_text('')", "pathlib.Path.write_text"),
        ("import pathlib; pathlib.Path('x').open()", "pathlib.Path.open"),
        ("import pathlib; pathlib.Path.cwd()", "pathlib.Path.cwd"),
        ("import socket; socket.socket()", "socket.socket"),
        ("import socket; socket.create_connection(x)", "socket.create_connection"),
        ("import socket; socket.gethostname()", "socket.gethostname"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.run"),
        ("import subprocess; subprocess.Popen(['true']).wait()", "subprocess.Popen"),
        ("import threading; threading.Thread(target=x)", "threading.Thread"),
        ("import multiprocessing; multiprocessing.Process()", "multiprocessing.Process"),
        ("import concurrent.futures; concurrent.futures.ThreadPoolExecutor()", "concurrent.futures.ThreadPoolExecutor"),
        ("import urllib.request; urllib.request.urlopen('x')", "urllib.request.urlopen"),
        ("import http.client; http.client.HTTPConnection('x')", "http.client.HTTPConnection"),
        ("import sqlite3; sqlite3.connect('x')", "sqlite3.connect"),
        ("import shutil; shutil.rmtree('x')", "shutil.rmtree"),
        ("import tempfile; tempfile.mkdtemp()", "tempfile.mkdtemp"),
        ("import asyncio; asyncio.create_subprocess_exec('x')", "asyncio.create_subprocess_exec"),
        ("import asyncio; asyncio.open_connection('x')", "asyncio.open_connection"),
        ("import asyncio; asyncio.start_server(x)", "asyncio.start_server"),
        ("import asyncio; asyncio.run(x)", "asyncio.run"),
    ],
)
def test_what_is_not_deterministic_is_found(write, source: str, target: str) -> None:
    assert targets(write, source) == [target]


@pytest.mark.parametrize(
    "source",
    [
        "import time; time.gmtime(0)",
        "import time; time.localtime(x)",
        "import time; time.strftime('%Y', x)",
        "import time; time.strptime('2020', '%Y')",
        "import time; time.struct_time(x)",
        "import datetime; datetime.datetime(2020, 1, 1)",
        "import datetime; datetime.datetime.fromisoformat('2020-01-01')",
        "import datetime; datetime.datetime.fromtimestamp(0, datetime.UTC)",
        "import datetime; datetime.date(2020, 1, 1).isoformat()",
        "import random; random.Random(7)",
        "import random; random.Random(7).choice([1])",
        "import random; random.Random(x).random()",
        "import random; isinstance(x, random.Random)",
        "import secrets; secrets.compare_digest('a', 'b')",
        "import uuid; uuid.UUID(int=1)",
        "import uuid; uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "import os; os.path.join('a', 'b')",
        "import os; os.fspath(x)",
        "import os; os.sep",
        "import pathlib; pathlib.Path('x').name",
        "import pathlib; pathlib.Path('x').with_suffix('.y')",
        "import pathlib; pathlib.PurePath('x') / 'y'",
        "import socket; socket.AF_INET",
        "import socket; socket.timeout('late')",
        "import socket; socket.inet_aton('1.1.1.1')",
        "import socket; isinstance(x, socket.socket)",
        "import subprocess; subprocess.PIPE",
        "import subprocess; isinstance(x, subprocess.CalledProcessError)",
        "import threading; threading.Lock()",
        "import sqlite3; isinstance(x, sqlite3.Row)",
        "import sqlite3; isinstance(x, sqlite3.OperationalError)",
        "import asyncio; asyncio.sleep(1)",
        "import asyncio; asyncio.to_thread(x)",
        "import asyncio; asyncio.gather(x, y)",
        "import io; io.StringIO('x').read()",
        "import logging; logging.getLogger('x').info('hello')",
        "import json; json.dumps({})",
        "x.open()",
        "x.now()",
        "print(x)",
    ],
)
def test_near_misses_are_not_reported(write, source: str) -> None:
    assert targets(write, source) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import not_there as requests\n    requests.get('x')", []),
        ("import requests\n    requests.get('x')", ["requests.get"]),
        ("import requests as r\n    r.Session()", ["requests.Session"]),
        ("from httpx import AsyncClient as Client\n    Client()", ["httpx.AsyncClient"]),
        ("import aiohttp.client\n    aiohttp.client.ClientSession()", ["aiohttp.client.ClientSession"]),
        ("import numpy as np\n    np.random.rand()", ["numpy.random.rand"]),
        ("from numpy import random\n    random.rand()", ["numpy.random.rand"]),
        ("import numpy as np\n    np.random.default_rng()", ["numpy.random.default_rng"]),
        ("import numpy as np\n    np.random.default_rng(1)", []),
        ("import numpy as np\n    np.array([1])", []),
        ("import requests\n    isinstance(x, requests.Response)", []),
        ("import requests\n    isinstance(x, requests.exceptions.Timeout)", []),
        ("import httpx\n    httpx.HTTPStatusError", []),
        ("import httpx\n    httpx.Timeout(5)", []),
    ],
)
def test_a_module_that_is_not_imported_yet_is_known_by_name(write, monkeypatch, source: str, found: list[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"requests", "httpx", "aiohttp", "numpy"}]:
        monkeypatch.delitem(sys.modules, name)
    assert targets(write, source) == found


def test_an_imported_library_is_known_by_identity(write, monkeypatch) -> None:
    library, api = ModuleType("requests"), ModuleType("requests.api")
    exec("def get(url): ...\nclass Session:\n    def get(self, url): ...\nclass Gone(OSError): ...\n", vars(api))
    library.get, library.Session, library.Gone = api.get, api.Session, api.Gone
    library.codes = {"ok": 200}
    monkeypatch.setitem(sys.modules, "requests", library)
    module = write(
        """
        import requests
        from requests import get as fetch
        session = requests.Session()

        def wf():
            fetch("x")
            session.get("x")
            requests.Session()
            try:
                return requests.codes["ok"]
            except requests.Gone:
                raise requests.Gone("x")
        """
    )
    found = [(finding.target, finding.line) for finding in inspect_function(module.wf)]
    assert found == [("requests.get", 7), ("requests.api.Session.get", 8), ("requests.Session", 9)]


def test_every_rule_says_what_to_do_instead() -> None:
    assert all(rule.advice for rule in RULES)
    assert len({rule.target for rule in RULES}) == len(RULES)


def test_every_exception_to_a_rule_belongs_to_one() -> None:
    whole = {rule.target.removesuffix("*") for rule in RULES if rule.target.endswith(".*")}
    assert all(any(name.startswith(prefix) for prefix in whole) for name in FINE)
