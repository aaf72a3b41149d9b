"""Something that happens between two statements of one call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.runtime.database import Database, Parameters, Statement


class Interrupted(Database):
    """A database in which something happens right before each statement."""

    between: Callable[[], Awaitable[None]] | None = None

    async def all(self, query: Statement[Any], parameters: Parameters) -> Sequence[Any]:
        if self.between is not None:
            await self.between()
        return await super().all(query, parameters)
