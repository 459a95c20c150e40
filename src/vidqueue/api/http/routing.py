"""Finds the address that a request is for, by its number of path segments and the first two of them.

Starlette's router tries one pattern after the other, of which there are a hundred here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from starlette.convertors import PathConvertor
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

_Key = tuple[int, str, str]


class Routes:
    """Starlette's routes, found faster. The first segment of a path is no parameter, and a parameter is one segment.

    Raises:
        ValueError: a path that would never be found.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._literal: dict[str, Route] = {}
        self._others: dict[_Key, list[Route]] = defaultdict(list)
        for route in routes:
            _refuse_unfindable(route)
            if route.param_convertors:
                self._others[_key_of(route.path)].append(route)
            else:
                self._literal[route.path] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to its address.

        Raises:
            HTTPException: 404 if there is none.
        """
        path: str = scope["path"]
        if route := self._literal.get(path):
            scope["path_params"] = {}
            await route.app(scope, receive, send)
            return
        segments, first, second = _key_of(path)
        for one in (second, ""):
            for route in self._others.get((segments, first, one), ()):
                matched, found = route.matches(scope)
                if matched is Match.FULL:
                    scope.update(found)
                    await route.app(scope, receive, send)
                    return
        raise HTTPException(404)


def _refuse_unfindable(route: Route) -> None:
    if "{" in route.path[1:].partition("/")[0]:
        raise ValueError(f"The first segment of {route.path} is a parameter.")
    if any(isinstance(one, PathConvertor) for one in route.param_convertors.values()):
        raise ValueError(f"A parameter of {route.path} stands for several segments.")


def _key_of(path: str) -> _Key:
    """The number of segments and the first two; a second one with a parameter, or that is not there, is empty."""
    first, _, rest = path[1:].partition("/")
    second = rest.partition("/")[0]
    return path.count("/"), first, "" if "{" in second else second
