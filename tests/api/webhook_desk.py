"""A developer's desk: the documents webhooks are run with."""

from __future__ import annotations

from typing import Any

from domain.core import ids
from domain.identity import Role
from tests import make
from tests.api.desk import RESULTS, Desk, member
from tests.receiver import collected
from workers.webhooks import Dispatcher

ENDPOINT = """
    id version url kinds selection triggers note state reason publicKey previousSecretUntil
"""
WITH_SECRET = f"... on WebhookEndpointSecret {{ secret endpoint {{ {ENDPOINT} }} }}"
CONFLICT = f"... on Conflict {{ current {{ id version ... on WebhookEndpoint {{ {ENDPOINT} }} }} }}"
RESULTS |= {
    "createWebhookEndpoint": WITH_SECRET
    + " ... on SelectionInvalid { reason } ... on EndpointLimit { max }",
    "updateWebhookEndpoint": f"... on WebhookEndpoint {{ {ENDPOINT} }} {CONFLICT}",
    "rotateWebhookSecret": WITH_SECRET + CONFLICT,
    "deleteWebhookEndpoint": "... on WebhookEndpointDeleted { id }" + CONFLICT,
    "webhookTest": "... on WebhookTried { messageId signature body attempt { code error answer tookMs } }",
    "webhookDryRun": "... on WebhookPayload { payload } ... on SelectionInvalid { reason }",
    "redeliverWebhook": "... on WebhooksRedelivered { count resumeCursor }",
}
LIST = f"query ($id: ID!) {{ merchantWebhookEndpoints(merchantId: $id) {{ {ENDPOINT} }} }}"
DELIVERIES = """
query ($id: ID!, $first: Int, $after: String, $state: WebhookDeliveryState) {
  node(id: $id) { ... on WebhookEndpoint { deliveries(first: $first, after: $after, state: $state) {
    edges { cursor node {
      id messageId sequence kind cursor state tries code error body dueAt
      attempts { number code error answer }
    } }
    pageInfo { hasNextPage endCursor }
  } } }
}"""


class Developer(Desk):
    """Fields without `@idempotent` are posted without a key."""

    async def plain(self, name: str, input: dict[str, Any]) -> dict[str, Any]:
        kind = f"{name[0].upper()}{name[1:]}Input"
        document = (
            f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ __typename {RESULTS[name]}"
            " ... on Problem { code path } ... on InvalidInput { problems { code path } } } }"
        )
        found: dict[str, Any] = (await self.data(document, {"input": input}))[name]
        return found


async def developer(of: make.Shop, role: Role = Role.DEVELOPER) -> Developer:
    return Developer((await member(of, role)).token)


def terms(of: make.Shop, url: str, **more: Any) -> dict[str, Any]:
    return {"merchantId": ids.encode("mer", of.merchant_id), "url": url, **more}


async def sent() -> None:
    await collected()
    dispatcher = Dispatcher()
    await dispatcher.idle()
    await dispatcher.close()


async def deliveries(desk: Desk, endpoint_id: str, **more: Any) -> dict[str, Any]:
    variables = {"id": endpoint_id, "first": 10, **more}
    found: dict[str, Any] = (await desk.data(DELIVERIES, variables))["node"]["deliveries"]
    return found
