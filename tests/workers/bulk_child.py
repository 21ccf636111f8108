"""Workers for a test that kills them: one after the other does bulk work until nothing is due, or until it dies.

Each is forked, so that the contract is loaded once. Prints how many died.
"""

from __future__ import annotations

import asyncio
import os
import signal

from domain import bulk
from domain.bulk import rules
from domain.core import bell, db
from domain.core.settings import settings
from server.graphql import bulk as contract


async def work() -> None:
    """Small pages and batches, so that there are many places to die at."""
    rules.PAGE_MAX = 5
    rules.BATCH_ROWS = 4
    rules.TURN_S = 0.2
    found = settings()
    assert found.database_url is not None
    assert found.redis_url is not None
    await db.open(found.database_url, minsize=1, maxsize=4)
    bell.open(found.redis_url)
    # The leases of the dead are over.
    await db.execute("UPDATE bulk_job SET lease_until = clock_timestamp() - interval '1 s'")
    while await bulk.turn():
        pass
    await bell.close()
    await db.close()


def main() -> None:
    """Fork until one lives to the end."""
    contract.install()
    died = 0
    while True:
        pid = os.fork()
        if pid == 0:
            asyncio.run(work())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            print(died, os.waitstatus_to_exitcode(status))
            return
        died += 1


if __name__ == "__main__":
    main()
