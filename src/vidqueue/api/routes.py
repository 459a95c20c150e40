"""Every HTTP endpoint but the pages: the native ones, and the doors for clients of other systems."""

from __future__ import annotations

from vidqueue.api.compat import routes as compat
from vidqueue.api.http.endpoint import Endpoint
from vidqueue.api.v1 import routes as v1

ENDPOINTS: tuple[Endpoint, ...] = (*v1.ENDPOINTS, *compat.ENDPOINTS)
