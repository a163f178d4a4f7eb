"""What names stand for, which helpers are entered, and how findings are told."""

from __future__ import annotations

import os
import warnings

import pytest

from perdure.errors import DeterminismWarning, NonDeterminismError
from perdure.guard.static import Finding, inspect_function, reachable, warn


def found(write, source: str, name: str = "wf") -> list[tuple[str, int]]:
    function = getattr(write(source), name)
    return [(finding.target, finding.line) for finding in inspect_function(function)]


# --- aliases ----------------------------------------------------------------------------------------------------------


def test_aliases_are_seen_through(write) -> None:
    source = """
        import datetime as dt
        from datetime import datetime
        from time import time as t
        import os.path as p
        clock = datetime.now
        class Clock:
            read = staticmethod(t)

        def wf():
            t()
            dt.datetime.now()
            datetime.utcnow()
            clock()
            p.exists("x")
            Clock.read()
    """
    names = ["time.time", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.now"]
    assert found(write, source) == list(zip([*names, "os.path.exists", "time.time"], range(11, 17), strict=True))


def test_imports_inside_the_function_count(write) -> None:
    source = """
        def wf():
            import random as r, os.path
            from time import monotonic
            from .time import time
            monotonic(); os.getpid()
            time()
            return r.random()
    """
    assert found(write, source) == [("time.monotonic", 6), ("os.getpid", 6), ("random.random", 8)]


def test_a_closure_and_a_local_alias_count(write) -> None:
    source = """
        import time
        def outer(clock=time):
            def wf():
                alias = clock
                return alias.time()
            return wf
        wf = outer()
    """
    assert found(write, source) == [("time.time", 6)]


def test_an_alias_of_a_function_is_told_once(write) -> None:
    assert found(write, "import time\ndef wf():\n    t = time.time\n    return t() - t()\n") == [("time.time", 3)]


def test_passing_the_function_on_is_using_it(write) -> None:
    assert found(write, "import random\ndef wf(xs):\n    return sorted(xs, key=lambda x: map(random.choice, x))\n") == [
        ("random.choice", 3)
    ]


# --- shadowing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "def wf(random): return random.choice([1])",
        "def wf(*random, **time): return random.choice, time.time",
        "def wf(*paths: pathlib.Path, **more: pathlib.Path): return paths.stat(), more.open()",
        "def wf():\n    time = Clock()\n    return time.time()",
        "def wf(xs):\n    for time in xs: time.time()",
        "def wf(xs):\n    return [time.time() for time in xs], {random: random.random() for random in xs}",
        "def wf(x):\n    with x as open: open('y')",
        "def wf(x):\n    if (time := x): return time.time()",
        "def wf(x):\n    match x:\n        case [time, *random]: return time.time(), random.random()",
        "def wf(x):\n    match x:\n        case {'a': 1, **time}: return time.time()",
        "def wf(x):\n    try: x()\n    except Exception as time: return time.time()",
        "def wf(x):\n    def time(): ...\n    return time.time",
        "def wf(x):\n    def inner(time): return time.time()\n    return inner(x)",
        "def wf(x):\n    class random: choice = 1\n    return random.choice",
        "def wf(x):\n    time = x\n    def inner(): return time.time()\n    return inner()",
        "def wf(x):\n    def inner():\n        nonlocal x\n        x = 1\n        return x.time()\n    return inner",
        "def wf(x):\n    x = lambda time: time.time()",
        "def wf(x):\n    time, _ = x\n    time.time()",
        "def wf(x: time.struct_time) -> random.Random: y: os.environ = x",
    ],
)
def test_a_local_name_is_not_the_module_of_that_name(write, body: str) -> None:
    assert found(write, f"import os, pathlib, random, time\nclass Clock:\n    def time(self): return 1\n{body}\n") == []


def test_after_a_global_statement_the_name_is_the_module(write) -> None:
    assert found(write, "import time\ndef wf():\n    global time\n    time.time(); time = 0\n") == [("time.time", 4)]


def test_a_class_body_does_not_shadow_for_its_methods(write) -> None:
    source = """
        import time as clock
        def wf():
            class Local:
                clock = 1
                def read(self): return clock.time()
            return Local().read()
    """
    assert found(write, source) == [("time.time", 6)]


# --- instances --------------------------------------------------------------------------------------------------------


def test_methods_of_paths_are_known_by_annotation_construction_and_global(write) -> None:
    source = """
        from pathlib import Path
        ROOT = Path("root")
        def wf(given: Path, text: "Path", unknown):
            built = Path("x")
            built.read_text()
            given.exists()
            text.read_bytes()
            ROOT.iterdir()
            unknown.read_text()
            return built.name, given.parent, ROOT.stem
    """
    names = ["read_text", "exists", "read_bytes", "iterdir"]
    assert found(write, source) == [(f"pathlib.Path.{name}", line) for line, name in enumerate(names, 6)]


def test_a_generator_is_fine_where_it_is_seeded_and_not_where_it_is_shared(write) -> None:
    source = """
        import random
        SHARED = random.Random(1)
        def wf(given: random.Random):
            own = random.Random(2)
            own.choice([1]), given.choice([1])
            return SHARED.choice([1])
    """
    assert found(write, source) == [("random.Random.choice", 7)]


# --- helpers ----------------------------------------------------------------------------------------------------------


def test_helpers_in_the_users_own_modules_are_entered_and_cycles_end(write) -> None:
    write("import time\ndef read(): return again()\ndef again(): return read() or time.time()\n", "own_helpers")
    function = write("import own_helpers\ndef wf(): return own_helpers.read()\n").wf
    [finding] = inspect_function(function)
    assert (finding.target, finding.line, finding.function) == ("time.time", 3, "again")
    assert os.path.basename(finding.file) == "own_helpers.py"


def test_methods_are_entered_through_classes_instances_and_self(write) -> None:
    source = """
        import functools, time
        class Base:
            def inherited(self): return time.time()
        class Clock(Base):
            def __init__(self): self.at = time.monotonic()
            @staticmethod
            def static(): return time.time_ns()
            @classmethod
            def by_class(cls): return cls.static()
            @property
            def prop(self): return self.inherited()
            @functools.lru_cache
            def cached(self): return time.process_time()
        CLOCK = object.__new__(Clock)
        def wf():
            Clock.by_class(), CLOCK.prop, CLOCK.cached()
            return Clock()
    """
    assert [line for _, line in found(write, source)] == [4, 6, 8, 14]


def test_nested_functions_partials_tables_and_decorators_are_entered(write) -> None:
    source = """
        import functools, time
        def timed(function):
            @functools.wraps(function)
            def wrapper(*args):
                return time.time(), function(*args)
            return wrapper
        @timed
        def one(): return time.monotonic()
        def two(x): return time.time_ns()
        def three(): return time.perf_counter()
        PART, TABLE = functools.partial(two, 1), {"a": three}
        def wf(key):
            def nested(): return time.thread_time()
            one(), PART(), TABLE[key]()
    """
    assert [line for _, line in found(write, source)] == [6, 9, 10, 11, 14]


def test_two_functions_of_one_factory_are_both_entered(write) -> None:
    source = """
        import time
        def pause(function):
            def wrapper(): return function()
            return wrapper
        one = pause(lambda: time.time())
        two = pause(lambda: time.monotonic())
        def wf(): return one(), two()
    """
    assert found(write, source) == [("time.time", 6), ("time.monotonic", 7)]


def test_default_factories_of_a_dataclass_run_where_it_is_built(write) -> None:
    source = """
        import uuid
        from dataclasses import dataclass, field
        @dataclass
        class Order:
            id: uuid.UUID = field(default_factory=uuid.uuid4)
        def wf():
            Order(id=uuid.UUID(int=1))
            return Order()
    """
    assert found(write, source) == [("uuid.uuid4", 9)]


def test_activities_workflows_perdure_and_libraries_are_not_entered(write) -> None:
    source = """
        import functools, json, time, pytest
        from perdure import guard
        from perdure.guard import static
        class Definition:
            def __init__(self, kind, fn):
                self.__perdure_kind__ = kind
                functools.update_wrapper(self, fn)
            def submit(self): return time.time()
        def impure(): return time.time()
        act, child = Definition("activity", impure), Definition("workflow", impure)
        marked = functools.wraps(impure)(lambda: time.time())
        marked.__perdure_kind__ = "activity"
        def wf():
            act(); child(); marked()
            json.dumps(1), pytest.importorskip("x"), static.inspect_function(wf), guard.static.warn([], True)
    """
    assert found(write, source) == []


def test_the_root_is_inspected_even_though_it_is_a_workflow(write) -> None:
    source = """
        import functools, time
        class Workflow:
            __perdure_kind__ = "workflow"
            def __init__(self, fn): functools.update_wrapper(self, fn)
        @Workflow
        def wf(): return time.time() or wf
    """
    assert found(write, source) == [("time.time", 7)]


def test_an_installed_package_is_the_users_own_where_it_holds_the_workflow(write) -> None:
    write("", "site-packages.shop.__init__")
    write("import time\ndef read(): return time.time()\n", "site-packages.shop.clock")
    write("import time\ndef read(): return time.time()\n", "site-packages.other")
    function = write(
        """
        import importlib
        clock = importlib.import_module("site-packages.shop.clock")
        other = importlib.import_module("site-packages.other")
        clock.read.__module__ = "shop.clock"; other.read.__module__ = "other"
        def wf(): return clock.read(), other.read()
        wf.__module__ = "shop.flows"
        """,
        "site-packages.shop.flows",
    ).wf
    assert [os.path.basename(finding.file) for finding in inspect_function(function)] == ["clock.py"]


def test_without_source_nothing_is_found() -> None:
    namespace: dict[str, object] = {}
    exec("import time\ndef wf(): return time.time()", namespace)
    assert inspect_function(namespace["wf"]) == []
    assert inspect_function(len) == []


def test_a_lambda_and_an_async_function_are_inspected(write) -> None:
    assert found(write, "import time\nwf = lambda: time.time()\n") == [("time.time", 2)]
    assert found(write, "import time\nasync def wf():\n    async with x(time.time()): ...\n") == [("time.time", 3)]


def test_an_edited_file_is_read_again(write, tmp_path) -> None:
    function = write("import time\ndef wf(): return time.time()\n", "edited_sample").wf
    assert len(inspect_function(function)) == 1
    (tmp_path / "edited_sample.py").write_text("import time\ndef wf(): return 12345678\n")
    assert inspect_function(function) == []


# --- sets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "for x in {'a', b}: f(x)",
        "for x in set(b): f(x)",
        "for x in frozenset(b): f(x)",
        "for x in {y for y in b}: f(x)",
        "for x in list(set(b)): f(x)",
        "for i, x in enumerate(set(b)): f(x)",
        "for x in set(b) - set(f): f(x)",
        "for x in set(b).union(f): f(x)",
        "for x in NAMES: f(x)",
        "[x for x in set(b)]",
        "[x for y in b for x in set(y)]",
        "{x: 1 for x in set(b)}",
        "f(*(f(x) for x in set(b)))",
        "s = set(b)\n    for x in s: f(x)",
        "sorted(f(x) for x in set(b))",
    ],
)
def test_iterating_a_set_is_found(write, body: str) -> None:
    source = f"NAMES = {{'a', 'b'}}\ndef wf(b, f):\n    {body}\n"
    assert [target for target, _ in found(write, source)] == ["for ... in a set"]


@pytest.mark.parametrize(
    "body",
    [
        "for x in sorted({'a', b}): f(x)",
        "for x in {1, 2, 3}: f(x)",
        "for x in NUMBERS: f(x)",
        "for x in [*b]: f(x)",
        "for x in {}: f(x)",
        "for x in {'a': 1}: f(x)",
        "b in {'a', 'b'}",
        "sorted(x for x in set(b))",
        "any(x > 1 for x in set(b))",
        "{x + 1 for x in set(b)}",
        "for x in b: f(x)",
        "s = set(b)\n    s = sorted(s)\n    for x in s: f(x)",
        "for x in {'a', b}: f(x)  # perdure: deterministic",
    ],
)
def test_sets_whose_order_does_not_matter_are_not_found(write, body: str) -> None:
    assert found(write, f"NUMBERS = {{1, 2}}\ndef wf(b, f):\n    {body}\n") == []


# --- opting out, telling ----------------------------------------------------------------------------------------------


def test_a_vouched_line_is_not_reported_and_not_followed(write) -> None:
    source = """
        import time
        def helper(): return time.time()
        def wf():
            time.time()  # perdure: deterministic
            helper()  # measured only   # perdure: deterministic
            time.monotonic(  # perdure: deterministic
            )
            time.time_ns()  # not vouched for
    """
    assert found(write, source) == [("time.time_ns", 9)]


def test_a_finding_says_what_where_and_what_to_write_instead(write) -> None:
    [finding] = inspect_function(write("import uuid\ndef wf():\n    return uuid.uuid4()\n").wf)
    assert isinstance(finding, Finding)
    assert (finding.target, finding.line, finding.function) == ("uuid.uuid4", 3, "wf")
    assert "perdure.uuid4()" in finding.advice
    assert str(finding).startswith(f"uuid.uuid4 in wf(), {finding.file}:3: use perdure.uuid4()")


def test_each_finding_is_warned_of_at_its_own_place() -> None:
    findings = [Finding("time.time", "use perdure.now()", "/app/flows.py", line, "wf") for line in (3, 9)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn(findings, strict=False)
    assert [(each.category, each.filename, each.lineno) for each in told] == [
        (DeterminismWarning, "/app/flows.py", 3),
        (DeterminismWarning, "/app/flows.py", 9),
    ]
    assert "use perdure.now()" in str(told[0].message)


def test_strict_raises_one_error_that_lists_all() -> None:
    findings = [Finding("time.time", "use perdure.now()", "/app/flows.py", line, "wf") for line in (3, 9)]
    with pytest.raises(NonDeterminismError, match=r"flows\.py:3: use perdure\.now\(\)\n.*flows\.py:9") as raised:
        warn(findings, strict=True)
    assert "# perdure: deterministic" in raised.value.hint
    warn([], strict=True)


# --- reachable --------------------------------------------------------------------------------------------------------


def test_reachable_finds_objects_through_helpers_attributes_closures_and_tables(write) -> None:
    write("class Child: ...\nfirst, second, third, fourth, fifth, unused = (Child() for _ in range(6))\n", "children")
    module = write(
        """
        import children
        from children import second
        def outer(closed=children.third):
            def wf(x):
                children.first()  # perdure: deterministic
                helper()
                TABLE[x], closed, second
                return wf
            return wf
        def helper(): return second, helper
        TABLE = {"a": children.fourth, "b": [children.unused]}
        class Registry:
            child = children.fifth
            def use(self): return self.child
        REGISTRY = Registry()
        def other(): return REGISTRY.use()
        wf = outer()
        """
    )
    import children  # type: ignore[import-not-found]

    def is_child(obj: object) -> bool:
        return isinstance(obj, children.Child)

    assert reachable(module.wf, is_child) == [children.first, children.fourth, children.third, children.second]
    assert reachable(module.other, is_child) == [children.fifth]


def test_reachable_does_not_look_into_other_workflows(write) -> None:
    module = write(
        """
        def grandchild(): ...
        def child(): return grandchild
        grandchild.__perdure_kind__ = child.__perdure_kind__ = "workflow"
        def wf(): return child()
        wf.__perdure_kind__ = "workflow"
        """
    )
    kinds = reachable(module.wf, lambda obj: getattr(obj, "__perdure_kind__", "") == "workflow")
    assert kinds == [module.child]
