"""The directives of the contract. Two are written into documents by clients, one says what a field takes.

The door and the gate read them; nothing runs per field.
"""

from typing import Annotated

import strawberry
from strawberry.directive import DirectiveLocation, DirectiveValue
from strawberry.schema_directive import Location

from schema.scalars import CountryCode, LanguageCode


@strawberry.directive(
    locations=[DirectiveLocation.FIELD],
    description=(
        "Makes a mutation safe to send again: the same key and input give the first result. Required on every"
        " mutation that moves money, stock or goods. Keys are kept for 30 days."
    ),
)
def idempotent(
    value: DirectiveValue[object],
    key: Annotated[
        str,
        strawberry.argument(
            description="1 to 255 printable characters, fresh for every new intention, e.g. a UUID."
        ),
    ],
) -> object:
    """Read by `resolvers.context.open_once`."""
    return value


@strawberry.directive(
    name="inContext",
    locations=[
        DirectiveLocation.QUERY,
        DirectiveLocation.MUTATION,
        DirectiveLocation.SUBSCRIPTION,
    ],
    description=(
        "Country and language of one operation; comes before the viewer's setting, Accept-Language and the"
        " address. What was used is in `extensions.context`."
    ),
)
def in_context(
    value: DirectiveValue[object],
    country: Annotated[
        CountryCode | None, strawberry.argument(description="Decides market and currency.")
    ] = strawberry.UNSET,
    language: Annotated[
        LanguageCode | None, strawberry.argument(description="Decides the words of the answer.")
    ] = strawberry.UNSET,
) -> object:
    """Read by the door before execution."""
    return value


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="requiresAcr",
    description=(
        "The field takes a session that has proved at least `acr` (`pwd`, `mfa`, `phr`) in the last `maxAge` seconds;"
        " otherwise it answers MFA_REQUIRED with `acrValues` and `maxAge`."
    ),
)
class RequiresAcr:
    """Checked by the gate of the field; RFC 9470."""

    acr: str = strawberry.field(description="What the session must have proved, at least.")
    max_age: int = strawberry.field(description="In how many seconds before the call.")


DIRECTIVES = (idempotent, in_context)
