"""Plan: the JSON form of a DAG of steps that Restate carries out; docs/dag.md shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from joelclaw_tasks.registry_model import DAY_S, NAME_PATTERN, Strict

MOST_NODES = 1_000
#: Elements of one `for_each`, and of all of a run together.
MOST_ELEMENTS, MOST_IN_RUN = 1_000, 5_000
MOST_BYTES = 1 << 20
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"

NodeId = Annotated[str, Field(pattern=ID_PATTERN)]
_Url = Annotated[str, Field(min_length=1, max_length=4_000)]
_Headers = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")], str]
_Long = Annotated[float, Field(gt=0, le=366 * DAY_S)]


class Retries(Strict):
    """A step is tried again at most `max` times, after base_s * 2**n seconds, and never more than cap_s."""

    max: Annotated[int, Field(ge=0, le=100)] = 0
    base_s: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    cap_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0

    def wait_s(self, tried: int) -> float:
        """Seconds before the next try, after so many (at least 1)."""
        return min(self.cap_s, self.base_s * 2.0 ** min(tried - 1, 30))


class Request(Strict):
    """A request over HTTP: any status from 200 to 299 is an answer, every other one a failure."""

    type: Literal["http"]
    url: _Url | dict[str, Any] = Field(description="http or https, or a reference to one.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: _Headers = Field(default_factory=dict, description="Of the request; no secrets: plans are kept.")
    body: Any = Field(default=None, description="Sent as JSON. null: nothing.")
    answer_s: Annotated[float, Field(gt=0, le=300)] = Field(
        default=30.0, description="The longest that one request may take, in seconds."
    )


class Task(Strict):
    """A handler of the registry: one job of it is admitted, and its end is waited for."""

    type: Literal["task"]
    handler: Annotated[str, Field(pattern=NAME_PATTERN)]
    data: dict[str, Any] = Field(default_factory=dict, description="The data of its event.")
    priority: Literal["P0", "P1", "P2", "P3"] | None = None


Undo = Annotated[Request | Task, Field(discriminator="type")]


class _Node(Strict):
    id: NodeId
    depends_on: list[NodeId] = Field(default_factory=list)

    @property
    def undone_by(self) -> Request | Task | None:
        """What takes it back; None: nothing does."""
        return None


class _Step(_Node):
    """What may fail, and be tried again, and be taken back."""

    retries: Retries = Retries()
    timeout_s: _Long | None = Field(default=None, description="All tries together; then the step has failed.")
    for_each: list[Any] | dict[str, Any] | None = Field(
        default=None, description='A list, or a reference to one: a run for each, which is {"$ref": "item"}.'
    )
    undo: Undo | None = Field(default=None, description="Runs when the DAG fails or is cancelled.")

    @property
    def undone_by(self) -> Request | Task | None:
        return self.undo


class HttpNode(_Step, Request):
    """A request. Its output: `{status, body}`."""


class TaskNode(_Step, Task):
    """A handler of the registry. Its output: `{job, result}`."""


class ApprovalNode(_Node):
    """A person says yes or no. Its output: `{approved, by, at, note}`. A no is a failure of the step."""

    type: Literal["approval"]
    question: Annotated[str, Field(min_length=1, max_length=2_000)]
    timeout_s: _Long = 86_400.0
    on_timeout: Literal["approve", "deny"] = "deny"


class WaitNode(_Node):
    """Nothing happens for a while. Its output: `{waited_s}`."""

    type: Literal["wait"]
    seconds: _Long


Node = Annotated[HttpNode | TaskNode | ApprovalNode | WaitNode, Field(discriminator="type")]
NODE_MODELS: dict[str, type[BaseModel]] = {
    "http": HttpNode, "task": TaskNode, "approval": ApprovalNode, "wait": WaitNode,
}  # fmt: skip
UNDO_MODELS: dict[str, type[BaseModel]] = {"http": Request, "task": Task}


class Plan(Strict):
    """Steps and what they depend on. Read one with `read_plan`, which finds every fault."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = "dag"
    nodes: Annotated[list[Node], Field(min_length=1, max_length=MOST_NODES)]
    output: Any = Field(default=None, description="What the run answers; it may have references.")
    emits: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        default=None, description="The event that is emitted when the run has ended, however."
    )

    def node(self, id: str) -> HttpNode | TaskNode | ApprovalNode | WaitNode | None:
        """The node of that id."""
        return next((node for node in self.nodes if node.id == id), None)

    def waves(self) -> Iterator[list[str]]:
        """Ids by the longest way from a beginning: each wave depends on earlier ones only.

        What is on a cycle, or behind one, is in none.
        """
        left = {node.id: set(node.depends_on) for node in self.nodes}
        while wave := [id for id, needs in left.items() if not needs]:
            yield wave
            gone = set(wave)
            left = {id: needs - gone for id, needs in left.items() if id not in gone}
