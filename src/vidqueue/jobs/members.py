"""Validation of the jobs of a batch: every fault of every member, with a JSON pointer, before anything is queued.

A member may read the output of an earlier one, as `vq:batch/<index or name>/<output>`; that becomes a reference to the
job that the earlier one will be. Only earlier ones can be named, so no cycle can be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from vidqueue.db.tables.batches import Member
from vidqueue.errors import VidqueueError
from vidqueue.jobs.submit import MOST_AFTER, JobRequest, new_job
from vidqueue.jobs.webhooks import Receiver
from vidqueue.processors import registry
from vidqueue.processors.media import Kind, json_pointer

LARGEST = 1000
# More would say nothing new, and the answer would be larger than the request.
FAULTS_TOLD = 50
# An object with more keys than this is no job; looking at each of them would take the time of everybody.
KEYS = 64
# JSON has larger numbers than Python reads back; vidqueue.accept() has the same bound.
LARGEST_NUMBER = 1e300

_EARLIER = re.compile(r"vq:batch/([A-Za-z0-9_.-]{1,64})/([a-z][a-z0-9_.-]{0,63})")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OTHER = re.compile(r"vq:jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")


def _as_text(index: Any) -> Any:
    """Return an index that was given as a number as the text that names the member."""
    return str(index) if type(index) is int else index


class BatchMember(JobRequest):
    """One job of a batch."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$",
        description="A name inside the batch, by which later members refer to this one's outputs.",
    )
    after: list[Annotated[str, BeforeValidator(_as_text), Field(min_length=1, max_length=64)]] = Field(
        default_factory=list,
        max_length=MOST_AFTER,
        description="Names or indexes of earlier jobs of the batch, or ids of other jobs, that must have succeeded "
        "before this one begins.",
    )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A member that is no job at all: pointer inside the member and what is wrong there."""

    faults: list[tuple[str, str]]


def _read(raw: Any, handler: ValidatorFunctionWrapHandler) -> BatchMember | Unreadable:
    """Keep the faults of a member for later, so that they are told together with those of the other members."""
    if isinstance(raw, dict) and len(raw) > KEYS:
        return Unreadable([("", f"A job has at most {KEYS} keys; this one has {len(raw)}")])
    try:
        member: BatchMember = handler(raw)
    except ValidationError as error:
        return Unreadable([(json_pointer(fault["loc"]), fault["msg"]) for fault in error.errors(include_url=False)])
    return member


class BatchRequest(BaseModel):
    """Jobs that are queued together: all of them or none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = Field(None, max_length=500, description="A label for people.")
    jobs: list[Annotated[BatchMember, WrapValidator(_read)]] = Field(
        min_length=1,
        max_length=LARGEST,
        description="Up to 1,000 jobs. A string in an `input` may be `vq:batch/<index or name>/<output>`: that output "
        "of an earlier job of this batch; indexes begin with 0.",
    )


@dataclass(slots=True)
class Faults:
    """What is wrong with a batch; a bounded number of faults is kept, and all of them are counted."""

    code: str = ""
    count: int = 0
    told: list[dict[str, str]] = field(default_factory=list)

    def add(self, code: str, pointer: str, detail: str) -> None:
        """Note one fault."""
        self.code = self.code or code
        self.count += 1
        if len(self.told) < FAULTS_TOLD:
            self.told.append({"pointer": pointer, "detail": detail})

    def raise_if_any(self) -> None:
        """Refuse the batch if it has a fault.

        Raises:
            VidqueueError: the code of the first fault.
        """
        if not self.count:
            return
        first = f"{self.told[0]['pointer']}: {self.told[0]['detail']}"
        more = "" if self.count == 1 else f" It has {self.count} faults; `errors` names {len(self.told)} of them."
        raise VidqueueError(self.code, f"Nothing of the batch was queued. {first}{more}", errors=self.told)


@dataclass(slots=True)
class Checked:
    """The members that passed, and what has to be looked up: where each reference and each other job was named."""

    faults: Faults = field(default_factory=Faults)
    members: list[Member] = field(default_factory=list)
    references: dict[tuple[str, Kind], list[str]] = field(default_factory=dict)
    others: dict[UUID, list[str]] = field(default_factory=dict)
    receivers: dict[str, Receiver] = field(default_factory=dict)


def check(request: BatchRequest, ids: list[UUID], owner: str) -> Checked:
    """Check what can be known without IO; the jobs get these ids. May take long: it is called in a thread."""
    checked, earlier, own = Checked(), dict[str, UUID](), frozenset(ids)
    for index, (member, job_id) in enumerate(zip(request.jobs, ids, strict=True)):
        _check_one(member, job_id, owner, f"/jobs/{index}", _Inside(earlier, own, checked))
        earlier[str(index)] = job_id
        name = getattr(member, "name", None)
        if name in earlier:
            checked.faults.add("invalid_request", f"/jobs/{index}/name", f"An earlier job has the name {name!r} too")
        elif name is not None:
            earlier[name] = job_id
    return checked


def _check_one(member: BatchMember | Unreadable, job_id: UUID, owner: str, at: str, inside: _Inside) -> None:
    faults = inside.checked.faults
    if isinstance(member, Unreadable):
        for pointer, detail in member.faults:
            faults.add("invalid_request", at + pointer, detail)
        return
    before = faults.count
    if member.webhook is not None:
        inside.checked.receivers[f"{at}/webhook"] = member.webhook
    resolved = inside.resolved(member.input, f"{at}/input")
    after = [inside.job_of(one, f"{at}/after/{index}") for index, one in enumerate(member.after)]
    try:
        processor = registry.find(member.processor)
        params = registry.accept(processor, resolved)
        with registry.blaming(processor):
            media = list(processor.media(params))
    except VidqueueError as error:
        for fault in error.errors or [{"pointer": "/processor", "detail": error.message}]:
            faults.add(error.code, at + fault["pointer"], fault["detail"])
        return
    for one in media:
        other = _OTHER.match(one.reference)
        if other is None or UUID(other[1]) not in inside.own:
            wanted = (one.reference, one.kind)
            inside.checked.references.setdefault(wanted, []).append(f"{at}/input{one.pointer}")
    if faults.count == before:
        # The dependencies are written with those of all members.
        with registry.blaming(processor):
            job = new_job(member, processor, params, resolved, (), owner=owner)
        only_after = frozenset(one for one in after if one is not None) - inside.needs
        inside.checked.members.append(Member(job_id, job, frozenset(inside.needs), only_after))


@dataclass(slots=True)
class _Inside:
    """Walks through the input of one member: resolves references to earlier ones and notes what it depends on."""

    earlier: dict[str, UUID]
    own: frozenset[UUID]
    checked: Checked
    needs: set[UUID] = field(default_factory=set)

    def resolved(self, value: Any, at: str) -> Any:
        """The value with references to jobs in place of references to members. The JSON parser bounds its depth."""
        if isinstance(value, str):
            return self._text(value, at) if value.startswith("vq:") else value
        if isinstance(value, dict):
            return {key: self.resolved(inner, at + json_pointer((key,))) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolved(inner, f"{at}/{index}") for index, inner in enumerate(value)]
        if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
            self.checked.faults.add("invalid_params", at, "The number is too large")
        return value

    def job_of(self, name: str, at: str) -> UUID | None:
        """The job that a name or index of an earlier member, or an id, stands for."""
        if name in self.earlier:
            return self.earlier[name]
        if not _ID.fullmatch(name):
            what = f"{name!r} is no earlier job of this batch, and no id of a job"
            self.checked.faults.add("invalid_params", at, what)
            return None
        self.checked.others.setdefault(UUID(name), []).append(at)
        return UUID(name)

    def _text(self, value: str, at: str) -> str:
        if value.startswith("vq:batch/"):
            return self._member(value, at)
        if other := _OTHER.match(value):
            needed = UUID(other[1])
            self.needs.add(needed)
            self.checked.others.setdefault(needed, []).append(at)
        return value

    def _member(self, value: str, at: str) -> str:
        named = _EARLIER.fullmatch(value)
        job_id = self.earlier.get(named[1]) if named else None
        if named is None or job_id is None:
            what = f"{value[:100]!r} names no earlier job of this batch"
            self.checked.faults.add("invalid_params", at, f"{what}; write vq:batch/<index or name>/<output>")
            return value
        self.needs.add(job_id)
        return f"vq:jobs/{job_id}/{named[2]}"
