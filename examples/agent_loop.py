"""An agent loop: a model that calls tools until its task is done, each call durable, the dangerous ones approved.

    python examples/agent_loop.py                   # a scripted human approves; takes about three seconds
    python examples/agent_loop.py --wait            # approve it yourself, from another terminal:
    python examples/agent_loop.py --answer yes      # (or no); works also while the agent is not running

The model is scripted, so there is no network and no key; put a real call into `think` and nothing else changes. Each
answer of the model and each result of a tool is in the log: killed (`kill -9`, Ctrl-C) and run again, the agent goes
on with the conversation where it was and pays for no token twice. Progress is in the workflow's `state`, which anyone
can read meanwhile. State: `agent_loop.db` and the folder `agent_loop.files`, or beside the path that you name; delete
the database to begin anew.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from perdure import Client, Engine, Retry, activity, current_attempt, state, workflow
from perdure.errors import ExecutionClosed, StaleToken

TASK = "Free some space, but keep what matters."
MAX_TURNS = 20
REFUSED = "A human said no."


@dataclass
class Message:
    """One turn of the conversation; the model asks for a tool, or says something final when `tool` is empty."""

    role: str
    text: str
    tool: str = ""
    arguments: dict[str, str] = field(default_factory=dict)


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one write, so that lines of several threads do not mix


# --- the model ------------------------------------------------------------------------------------------------------

SCRIPT = [
    Message("model", "Let me see what is there.", "list_files"),
    Message("model", "That one may be temporary.", "read_file", {"name": "cache.tmp"}),
    Message("model", "And this?", "read_file", {"name": "missing.txt"}),
    Message("model", "It is only a cache: it can go.", "delete_file", {"name": "cache.tmp"}),
    Message("model", "Is it gone?", "list_files"),
    Message("model", "Done: the cache is gone, your thesis is still there."),
]


@activity
async def think(conversation: list[Message]) -> Message:
    """Ask the model for its next message."""
    turn = sum(message.role == "model" for message in conversation)
    await asyncio.sleep(0.2)  # models are slow
    reply = SCRIPT[turn]
    if not reply.tool and any(message.text == REFUSED for message in conversation):
        reply = Message("model", "I was not allowed to delete anything, so all is as it was.")
    say(f"model: {reply.text}")
    return reply


# --- its tools ------------------------------------------------------------------------------------------------------


@activity
def prepare(folder: str) -> None:
    """Give the agent something to work on. As an activity it is done once, and not again after a crash."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "thesis.txt").write_text("All that matters.\n", encoding="utf-8")
    (Path(folder) / "cache.tmp").write_text("0" * 10_000, encoding="utf-8")


@activity
def list_files(folder: str) -> str:
    return ", ".join(f"{path.name} ({path.stat().st_size} bytes)" for path in sorted(Path(folder).iterdir()))


@activity(retry=Retry(never=(OSError,)))  # a missing file is an answer, not a hiccup
def read_file(folder: str, name: str) -> str:
    return _inside(folder, name).read_text(encoding="utf-8")[:1_000]


@activity
def delete_file(folder: str, name: str) -> str:
    time.sleep(0.2)  # a slow disk; a `def` activity has a thread to wait in
    _inside(folder, name).unlink(missing_ok=True)  # it may run again if the process dies before this is recorded
    say(f"tool:  deleted {name}")
    return f"{name} is deleted"


def _inside(folder: str, name: str) -> Path:
    path = (Path(folder) / name).resolve()
    if not path.is_relative_to(Path(folder).resolve()):
        raise PermissionError(f"{name} is not in the folder")
    return path


TOOLS = {tool.name: tool for tool in (list_files, read_file, delete_file)}
DANGEROUS = {delete_file.name}


@activity
async def ask_human(question: str, mailbox: str) -> bool:
    """Send a question and end; who has the token gives the answer, now or next week."""
    attempt = current_attempt()
    Path(mailbox).write_text(f"{attempt.token} {question}\n", encoding="utf-8")  # an e-mail with a link, say
    say(f"agent: waits for a human: {question}")
    attempt.finish_later()


# --- the agent ------------------------------------------------------------------------------------------------------


@workflow
async def agent(task: str, folder: str, mailbox: str) -> str:
    await prepare.submit(folder)
    conversation = [Message("user", task)]
    for turn in range(MAX_TURNS):
        state["turn"], state["doing"] = turn, "thinking"
        reply = await think(conversation)
        conversation.append(reply)
        if not reply.tool:
            state["doing"] = "done"
            return reply.text
        wish = " ".join([reply.tool, *reply.arguments.values()])
        state["doing"] = wish
        if reply.tool in DANGEROUS and not await ask_human(f"May I {wish}?", mailbox):
            conversation.append(Message("tool", REFUSED))
            continue
        try:
            result = await TOOLS[reply.tool].submit(folder, **reply.arguments)
        except Exception as error:  # the model can make something of it
            result = f"{type(error).__name__}: {error}"
        conversation.append(Message("tool", result))
    raise RuntimeError(f"not done after {MAX_TURNS} turns")


# --- running it -----------------------------------------------------------------------------------------------------


async def answer(client: Client, mailbox: Path, yes: bool) -> bool:
    """Answer the question in the mailbox; say whether there was one that still waits."""
    if not mailbox.exists():
        return False
    token, _, question = mailbox.read_text(encoding="utf-8").strip().partition(" ")
    try:
        await client.complete(token, yes)
    except (StaleToken, ExecutionClosed):  # answered already
        return False
    say(f"human: {'yes' if yes else 'no'} to {question!r}")
    return True


async def play_human(client: Client, mailbox: Path) -> None:
    while not await answer(client, mailbox, yes=True):
        await asyncio.sleep(0.3)


async def run(database: Path, wait: bool) -> None:
    folder, mailbox = database.with_suffix(".files"), database.with_suffix(".question")
    async with Engine(database, workflows=[agent]) as engine:
        execution = await engine.start(agent, TASK, str(folder), str(mailbox), id="agent")
        human = None if wait else asyncio.create_task(play_human(engine, mailbox))
        say(f"agent: ended with: {await execution.result()}")
        if human is not None:
            human.cancel()


async def answer_only(database: Path, yes: bool) -> None:
    async with Client(database) as client:
        if not await answer(client, database.with_suffix(".question"), yes):
            say("there is no question that waits for an answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An agent loop with tools and a human's approval.")
    parser.add_argument("database", nargs="?", default="agent_loop.db", type=Path)
    parser.add_argument("--wait", action="store_true", help="wait for an answer from outside; no scripted human")
    parser.add_argument("--answer", choices=["yes", "no"], help="answer the question that waits, and end")
    options = parser.parse_args()
    try:
        if options.answer:
            asyncio.run(answer_only(options.database, options.answer == "yes"))
        else:
            asyncio.run(run(options.database, options.wait))
    except KeyboardInterrupt:
        say("stopped; run it again and it goes on")
