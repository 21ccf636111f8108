import time, asyncio
from domain import checkout
from domain.core import db as core
from tests import make

async def test_x(live_server, live_db):
    of = await make.shop(keys=20)
    lane = None
    at=[]
    for _ in range(110):
        o = await make.order(of); lane = o.lane
        at.append(await make.attempt(o, reserve=False))
    await core.execute("UPDATE payment_attempt SET state='unknown'")
    for a in at:
        await make.word(a)
    for i in range(30):
        await asyncio.sleep(0.5)
        print(await core.fetch("select status, count(*) from orders where merchant_id=$1 group by 1", of.merchant_id), await core.value("select count(*) from inbox_event where verdict is null"))
        if i == 10:
            for r in await core.fetch("SELECT pid, state, wait_event, left(query,200), xact_start FROM pg_stat_activity WHERE datname = current_database()"): print(tuple(r))
    print(live_server.log()[-3000:])
