"""Python source files: which there are, what is in one, and how the facts about many add up.

Plain functions, no workflow: the job and the plain loop that checks it both call them.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable
from pathlib import Path

import msgspec

FOREIGN = frozenset({"__pycache__", "site-packages", "dist-packages"})
TESTS = frozenset({"test", "tests", "idle_test"})


class FileFacts(msgspec.Struct, frozen=True):
    """What one file holds. Of one that does not parse, only lines and digest are known."""

    path: str
    sha256: str
    lines: int
    comments: int = 0
    functions: int = 0
    classes: int = 0
    parses: bool = True


class PackageFacts(msgspec.Struct, frozen=True):
    """The sums over the files of one top-level package or module; `sha256` is that of their digests, by path."""

    name: str
    files: int
    lines: int
    comments: int
    functions: int
    classes: int
    sha256: str


class Report(msgspec.Struct, frozen=True):
    """All packages, by name."""

    packages: list[PackageFacts]

    @property
    def files(self) -> int:
        return sum(package.files for package in self.packages)

    @property
    def lines(self) -> int:
        return sum(package.lines for package in self.packages)

    @property
    def functions(self) -> int:
        return sum(package.functions for package in self.packages)

    @property
    def classes(self) -> int:
        return sum(package.classes for package in self.packages)


def standard_library() -> Path:
    """Give the folder of the standard library of the Python that is running."""
    return Path(sysconfig.get_path("stdlib"))


def packages_in(library: Path, with_tests: bool = False) -> dict[str, list[str]]:
    """Give the Python files below `library` as relative paths, by top-level package or module, both sorted."""
    skipped = FOREIGN if with_tests else FOREIGN | TESTS
    packages: dict[str, list[str]] = {}
    for path in sorted(path.relative_to(library) for path in library.rglob("*.py")):
        if skipped.isdisjoint(path.parts[:-1]):
            packages.setdefault(path.parts[0].removesuffix(".py"), []).append(path.as_posix())
    return dict(sorted(packages.items()))


def examine(library: Path, path: str) -> FileFacts:
    """Read, hash, tokenize and parse one file."""
    body = (library / path).read_bytes()
    digest, lines = hashlib.sha256(body).hexdigest(), len(body.splitlines())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some files hold doubtful escapes on purpose
            tree = ast.parse(body)
        comments = sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(io.BytesIO(body).readline))
    except (SyntaxError, ValueError):  # templates and test data that are no Python, or that of another version
        return FileFacts(path, digest, lines, parses=False)
    nodes = [type(node) for node in ast.walk(tree)]
    functions = nodes.count(ast.FunctionDef) + nodes.count(ast.AsyncFunctionDef)
    return FileFacts(path, digest, lines, comments, functions, nodes.count(ast.ClassDef))


def combine(name: str, files: Iterable[FileFacts]) -> PackageFacts:
    """Add up the files of one package."""
    facts = sorted(files, key=lambda file: file.path)
    return PackageFacts(
        name,
        files=len(facts),
        lines=sum(file.lines for file in facts),
        comments=sum(file.comments for file in facts),
        functions=sum(file.functions for file in facts),
        classes=sum(file.classes for file in facts),
        sha256=hashlib.sha256("".join(file.sha256 for file in facts).encode()).hexdigest(),
    )
