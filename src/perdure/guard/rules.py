"""What workflow code must not use, and what to write instead.

A target is a dotted name: of a builtin (`open`), of something in a module (`time.time`), of a class's method
(`datetime.datetime.now`), or of everything in a module and below it (`requests.*`: its functions, and its classes when
called; never its constants and exceptions). Where two targets fit, the exact one wins. Nothing here is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One target and its way out. A call with `pure_args` or more arguments is deterministic (0: no call is)."""

    target: str
    advice: str
    pure_args: int = 0


NOW = "use perdure.now(): it returns the same instant on every replay"
SLEEP = "use perdure.sleep() in a `def` workflow, `await asyncio.sleep()` in an `async def` one: a durable timer"
RANDOM = "use perdure.random(): a random.Random that is seeded per execution"
SHARED_RANDOM = "this generator is shared by all executions; use perdure.random(), or build it inside the workflow"
UUID = "use perdure.uuid4()"
INPUT = "pass it in as workflow input, or read it in an @activity"
ACTIVITY = "do it in an @activity and call that"
CONCURRENT = "write a plain `def` @activity: it runs in a thread; call several at once with asyncio.gather()"
LOOP = "the engine runs the event loop: make the workflow `async def` and use `await`"
HASH = "it differs between processes; use a key of the value's own, or hashlib"
SET_ORDER = "string hashes differ between processes; wrap it in sorted()"


def _rules(advice: str, targets: str, pure_args: int = 0) -> Iterator[Rule]:
    for target in targets.split():
        yield Rule(target, advice, pure_args)


_PROCESS = """subprocess.* asyncio.create_subprocess_exec asyncio.create_subprocess_shell os.putenv os.unsetenv
    os.system os.popen os.fork os.forkpty os.posix_spawn os.posix_spawnp os.kill os.killpg os.startfile
    os.execl os.execle os.execlp os.execlpe os.execv os.execve os.execvp os.execvpe
    os.spawnl os.spawnle os.spawnlp os.spawnlpe os.spawnv os.spawnve os.spawnvp os.spawnvpe"""

_FILES = """open io.open os.open os.listdir os.scandir os.walk os.fwalk os.stat os.lstat os.access os.mkdir os.makedirs
    os.remove os.unlink os.rename os.renames os.replace os.rmdir os.removedirs os.link os.symlink os.readlink
    os.truncate os.utime os.chmod os.chown os.chdir os.mkfifo os.path.exists os.path.lexists os.path.isfile
    os.path.isdir os.path.islink os.path.getsize os.path.getmtime os.path.getatime os.path.getctime os.path.samefile
    codecs.open fileinput.input glob.glob glob.iglob shutil.* tempfile.*"""

_PATHS = """open read_text read_bytes write_text write_bytes exists is_file is_dir is_symlink stat lstat iterdir glob
    rglob walk mkdir touch unlink rename replace rmdir chmod symlink_to hardlink_to readlink samefile owner group"""

_NETWORK = """socket.* ssl.create_default_context requests.* httpx.* aiohttp.* urllib3.* urllib.request.* http.client.*
    ftplib.* smtplib.* imaplib.* poplib.* telnetlib.* xmlrpc.client.ServerProxy webbrowser.* boto3.*
    asyncio.open_connection asyncio.start_server asyncio.open_unix_connection asyncio.start_unix_server"""

_THREADS = """threading.Thread threading.Timer _thread.start_new_thread multiprocessing.*
    concurrent.futures.ThreadPoolExecutor concurrent.futures.ProcessPoolExecutor
    concurrent.futures.InterpreterPoolExecutor"""

_DATABASES = "sqlite3.* apsw.Connection psycopg.* psycopg2.* asyncpg.* pymysql.* redis.* pymongo.*"

RULES: tuple[Rule, ...] = (
    *_rules(NOW, "time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns"),
    *_rules(NOW, "time.process_time time.process_time_ns time.thread_time time.thread_time_ns time.clock_gettime"),
    *_rules(NOW, "time.localtime time.gmtime time.ctime time.asctime", pure_args=1),
    *_rules(NOW, "time.strftime", pure_args=2),
    *_rules(NOW, "datetime.datetime.now datetime.datetime.utcnow datetime.date.today datetime.datetime.today"),
    *_rules(SLEEP, "time.sleep"),
    *_rules(RANDOM, "random.* secrets.* os.urandom os.getrandom numpy.random.*"),
    *_rules(RANDOM, "random.Random numpy.random.default_rng numpy.random.RandomState", pure_args=1),
    *_rules(RANDOM, "numpy.random.SeedSequence numpy.random.Generator numpy.random.PCG64", pure_args=1),
    *_rules(UUID, "uuid.uuid1 uuid.uuid4 uuid.uuid6 uuid.uuid7 uuid.getnode"),
    *_rules(INPUT, "os.environ os.environb os.getenv os.getenvb os.getpid os.getppid os.getcwd os.getlogin os.uname"),
    *_rules(INPUT, "os.cpu_count os.getloadavg platform.node getpass.getuser getpass.getpass input"),
    *_rules(INPUT, "pathlib.Path.cwd pathlib.Path.home pathlib.Path.expanduser os.path.expanduser"),
    *_rules(INPUT, "os.path.expandvars"),
    *_rules(ACTIVITY, _FILES),
    *_rules(ACTIVITY, " ".join(f"pathlib.Path.{name}" for name in _PATHS.split())),
    *_rules(ACTIVITY, _PROCESS),
    *_rules(ACTIVITY, _NETWORK),
    *_rules(ACTIVITY, _DATABASES),
    *_rules(CONCURRENT, _THREADS),
    *_rules(LOOP, "asyncio.run asyncio.Runner asyncio.new_event_loop"),
    *_rules(HASH, "hash id"),
)

# Inside a module that is refused as a whole, and deterministic all the same.
_FINE = """secrets.compare_digest socket.inet_aton socket.inet_ntoa socket.inet_pton socket.inet_ntop socket.htons
    socket.htonl socket.ntohs socket.ntohl subprocess.list2cmdline subprocess.CompletedProcess shutil.get_terminal_size
    urllib.request.Request urllib.request.quote urllib.request.unquote urllib.request.pathname2url
    urllib.request.url2pathname httpx.URL httpx.Headers httpx.QueryParams httpx.Timeout httpx.Limits httpx.Request
    httpx.Response aiohttp.ClientTimeout aiohttp.BasicAuth requests.Request requests.Response sqlite3.Binary
    sqlite3.complete_statement"""
FINE: frozenset[str] = frozenset(_FINE.split())
