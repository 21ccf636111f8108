"""Shops in the contract as their merchant changes them."""

from typing import Annotated

import strawberry

from domain import merchants
from resolvers import shops as resolve
from schema.catalogue import Shop
from schema.field import Who, mutation_field
from schema.problems import Conflict, InvalidInput, NotFound, Problem, Unavailable, problem
from schema.versions import aggregate


@problem(merchants.HandleTaken, description="Another shop has this handle.")
class HandleTaken(Problem):
    """Code HANDLE_TAKEN."""


CreateShopResult = Annotated[
    Shop | HandleTaken | NotFound | InvalidInput | Unavailable,
    strawberry.union("CreateShopResult", description="The new shop, or why there is none."),
]
UpdateShopResult = Annotated[
    Shop | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdateShopResult", description="The changed shop, or why not."),
]


@strawberry.type
class ShopMutation:
    """Writes; each is a row of the audit log."""

    create_shop: CreateShopResult = mutation_field(
        resolve.create,
        who=Who.MERCHANT,
        idempotent=True,
        description="Open a shop; owners only, at most 50 per merchant. Problems: HANDLE_TAKEN, NOT_FOUND, "
        "INVALID_INPUT.",
        args={"input": "The merchant, the handle and the names."},
        cost=5,
    )
    update_shop: UpdateShopResult = mutation_field(
        resolve.update,
        who=Who.MERCHANT,
        idempotent=True,
        description="Change a shop's names; shown everywhere within two seconds. "
        "Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "What changes, and the version it is based on."},
        cost=5,
    )


aggregate("shp", load=resolve.current)
