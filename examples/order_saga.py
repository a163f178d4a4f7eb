"""An order saga: charge, reserve, wait for a human's approval, ship; and undo it all when the answer is no.

    python examples/order_saga.py                   # a scripted clerk decides; takes about three seconds
    python examples/order_saga.py --wait            # decide yourself, from another terminal, the runner alive or not:
    perdure signal order-2 approved true --db order_saga.db

Three orders: a cheap one that needs no approval, one that is approved, one that is rejected. The first charge of each
fails and is retried. Kill it at any moment (`kill -9`, Ctrl-C) and run it again: it goes on where it was, no card is
charged twice. Run it once more after the end: it only prints the results. State: `order_saga.db`, or the path that
you name; delete it to begin anew.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from dataclasses import dataclass

from perdure import Engine, Execution, Retry, Saga, Signal, activity, current_attempt, state, workflow
from perdure.errors import ExecutionClosed

NEEDS_APPROVAL_CENTS = 50_000


@dataclass
class Order:
    id: str
    item: str
    cents: int


class Rejected(Exception):
    """The clerk said no. The caller of the workflow gets this very class."""


approved = Signal("approved", bool)


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one write, so that lines of several threads do not mix


# --- activities: what touches the world -----------------------------------------------------------------------------


@activity(retry=Retry(attempts=5, initial_s=0.2), timeout_s=30)
async def charge(order: Order) -> str:
    attempt = current_attempt()
    if attempt.number == 1:
        raise ConnectionError("the card network did not answer")
    say(f"{order.id}: charged {order.cents / 100:.2f} for {order.item} (attempt {attempt.number})")
    # A real payment service gets the key, too: the same in every attempt, so it never charges twice.
    return f"charge-{attempt.idempotency_key}"


@activity
async def refund(order: Order, charge_id: str) -> None:
    say(f"{order.id}: refunded {charge_id}")


@activity
async def reserve(order: Order) -> None:
    say(f"{order.id}: reserved {order.item}")


@activity
async def release(order: Order) -> None:
    say(f"{order.id}: released {order.item}")


@activity
async def ask_clerk(order: Order) -> None:
    say(f"{order.id}: waits for approval")


@activity
async def ship(order: Order) -> str:
    say(f"{order.id}: shipped {order.item}")
    return f"parcel-of-{order.id}"


# --- the workflow: what happens in which order ----------------------------------------------------------------------


@workflow
async def fulfil(order: Order) -> str:
    async with Saga() as saga:  # on an error or a cancellation the undo steps run in reverse
        charge_id = await charge(order)
        saga.add(refund, order, charge_id)
        await reserve(order)
        saga.add(release, order)
        if order.cents >= NEEDS_APPROVAL_CENTS:
            await ask_clerk(order)
            state["waiting_for"] = "approval"
            async with asyncio.timeout(3 * 86_400):  # durable, too: three days, however often this is restarted
                if not await approved.receive():
                    raise Rejected(f"{order.item} for {order.cents / 100:.2f}")
            del state["waiting_for"]
        return await ship(order)


# --- running it -----------------------------------------------------------------------------------------------------


async def decide(execution: Execution[str], answer: bool) -> None:
    """Be the clerk: see that an order waits, think, answer."""
    while not (await execution.info()).status.closed:
        if "waiting_for" in await execution.state():
            await asyncio.sleep(0.5)
            say(f"{execution.id}: the clerk says {'yes' if answer else 'no'}")
            with suppress(ExecutionClosed):  # its time may be over meanwhile
                await execution.signal(approved, answer)
            return
        await asyncio.sleep(0.1)


async def main(database: str, wait: bool) -> None:
    orders = [
        Order("order-1", "a kettle", 3_900),
        Order("order-2", "a camera", 89_900),
        Order("order-3", "a boat", 2_500_000),
    ]
    async with Engine(database, workflows=[fulfil]) as engine:
        # the same id with the same input is the same execution, under way or ended: each order is fulfilled once
        executions = [await engine.start(fulfil, order, id=order.id) for order in orders]
        clerk = asyncio.gather(*(decide(each, answer=each.id == "order-2") for each in executions if not wait))
        for execution in executions:
            try:
                say(f"{execution.id}: ended with {await execution.result()}")
            except Rejected as error:
                say(f"{execution.id}: ended as rejected: {error}")
        await clerk


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An order saga with a human's approval.")
    parser.add_argument("database", nargs="?", default="order_saga.db")
    parser.add_argument("--wait", action="store_true", help="wait for a signal from outside; no scripted clerk")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.database, options.wait))
    except KeyboardInterrupt:
        say("stopped; run it again and it goes on")
