"""Which workflows an engine can run."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from perdure.activity import Activity
from perdure.errors import UnknownWorkflow
from perdure.guard import static
from perdure.workflow import Workflow

AnyWorkflow = Workflow[..., Any, Any]


class Registry:
    """Workflows by name. Children that the given ones call are found through their code, so that naming the parent
    is enough.

    `workflows` may hold workflows and modules (every workflow in it). Raises `ValueError` when two share a name,
    `InvalidValue` when a parameter or result cannot be written as JSON, and in strict mode `NonDeterminismError`
    for code that is not deterministic.
    """

    def __init__(self, workflows: Iterable[AnyWorkflow | ModuleType], strict: bool = False) -> None:
        self.by_name: dict[str, AnyWorkflow] = {}
        if isinstance(workflows, str | Workflow | ModuleType):
            raise TypeError(f"workflows takes a list, such as workflows=[{getattr(workflows, '__name__', 'fulfil')}]")
        for item in workflows:
            if isinstance(item, ModuleType):
                for value in vars(item).values():
                    if isinstance(value, Workflow):
                        self._add(value, strict)
            elif isinstance(item, Workflow):
                self._add(item, strict)
            else:
                raise TypeError(f"workflows takes functions decorated with @workflow and modules, not {item!r}")

    def get(self, name: str) -> AnyWorkflow:
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise UnknownWorkflow(
                f"workflow {name} is not known here (known: {known})",
                hint="add it to Engine(workflows=[…]), or start a worker with the code that has it",
            )
        return found

    def learn(self, workflow: AnyWorkflow) -> None:
        """Remember a workflow met at run time, such as a child that static reading did not find."""
        self.by_name.setdefault(workflow.name, workflow)

    def _add(self, workflow: AnyWorkflow, strict: bool) -> None:
        known = self.by_name.get(workflow.name)
        if known is not None:
            if known.fn is not workflow.fn:
                raise ValueError(f'two workflows are named {workflow.name}: give one another name, @workflow(name="…")')
            return
        self.by_name[workflow.name] = workflow
        workflow.arguments.prepare()
        findings = static.inspect_function(workflow.fn)
        strict_here = strict or workflow.strict
        static.warn([f for f in findings if strict_here or f not in workflow.reported], strict_here)
        for found in static.reachable(workflow.fn, lambda value: isinstance(value, Workflow | Activity)):
            if isinstance(found, Workflow):
                self._add(found, strict)
            elif isinstance(found, Activity):
                found.arguments.prepare()
