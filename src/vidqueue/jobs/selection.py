"""Selection of jobs by their properties: the filters of lists and of bulk actions."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from vidqueue.db.tables.jobs import JobFilter
from vidqueue.job import State

# `+` in a query string is decoded to a space, but clients often send an unescaped +02:00.
_ZONE = re.compile(r" (\d\d:\d\d)\Z", re.ASCII)

QueryTime = Annotated[
    AwareDatetime, BeforeValidator(lambda text: _ZONE.sub(r"+\1", text) if isinstance(text, str) else text)
]


class Selection(BaseModel):
    """Filters that select jobs; all of them must match."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(default_factory=list, description="Any of these; repeat it or separate by commas.")
    processor: str | None = Field(None, max_length=64)
    tag: str | None = Field(None, max_length=64)
    batch: UUID | None = Field(None, description="Only the jobs of this batch.")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Only jobs whose title, id, processor, lane, tags or error contain this, in any case. Each page "
        "looks at the next 1,000 jobs, so it may have few or none, and `next` leads on.",
    )
    owner: str | None = Field(None, max_length=255, description="Only the jobs of this owner.")
    created_after: QueryTime | None = Field(None, description="Only jobs created at or after this time (RFC 3339).")
    created_before: QueryTime | None = Field(None, description="Only jobs created before this time (RFC 3339).")

    @property
    def is_impossible(self) -> bool:
        """True if no query supports this combination: text cannot be searched within a batch."""
        return self.text is not None and self.batch is not None

    def within(
        self,
        scope: str | None,
        *,
        limit: int,
        states: list[str] | None = None,
        before: datetime | None = None,
        after: UUID | None = None,
    ) -> JobFilter | None:
        """Return the filter of a page of these jobs that are of the owner `scope`, or anybody's; None if none can be.

        Args:
            scope: the owner whose jobs may be seen; None for those of everybody.
            limit: most jobs of the page.
            states: instead of those of the selection.
            before: only jobs created before this time as well.
            after: the last job of the page before.
        """
        if scope is not None and self.owner not in (None, scope):
            return None
        bounds = [moment for moment in (self.created_before, before) if moment is not None]
        return JobFilter(
            owner=scope or self.owner,
            states=states or [state.value for state in self.state] or None,
            processor=self.processor,
            tag=self.tag,
            batch=self.batch,
            text=self.text,
            created_after=self.created_after,
            created_before=min(bounds, default=None),
            after=after,
            limit=limit,
        )
