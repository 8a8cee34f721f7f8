"""Background tasks of a server: tasks that none of its clients may end, and whose end is the end of the server.

Every server keeps its tasks, and whoever runs the server waits here for the first that ends.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from pipespec.ops.errors import InvariantBroken


async def first_end(*tasks: asyncio.Task[None]) -> NoReturn:
    """Wait until one of ``tasks`` ends, which none does by itself, and raise its error.

    Raises:
        InvariantBroken: it ended without one.
    """
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    task = done.pop()
    error = None if task.cancelled() else task.exception()
    raise error or InvariantBroken(
        f"the task {task.get_name()!r} must run as long as its server and has ended"
    )
