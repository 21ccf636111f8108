"""Trusted documents in the contract: registered by an app's developers, run by their id."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import partners
from domain.partners import Document, Fault
from resolvers import app_documents as resolve
from resolvers.app_documents import Registered, Removed
from schema.field import Who, field, mutation_field, object_type
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem


@object_type(description="A document that an app has registered.", rows=(Document,))
class AppDocument:
    """Run by this app's requests alone, as `documentId`."""

    id: str = field(description="The SHA-256 of the text's UTF-8, 64 lower-case hex digits.")
    text: str = field(description="The text.")
    created_at: datetime = field(description="When it was first registered.")


@object_type(description="Documents that are registered.", rows=(Registered,))
class AppDocumentsRegistered:
    """Every process knows them within five seconds."""

    documents: list[AppDocument] = field(description="In the order they were sent.")


@object_type(description="Documents that are gone.", rows=(Removed,))
class AppDocumentsRemoved:
    """Every process refuses them within five seconds."""

    count: int = field(description="How many of the ids there were.")


@object_type(description="Why one document cannot be registered.", rows=(Fault,))
class DocumentFault:
    """An entry of `DocumentsInvalid.problems`."""

    index: int = field(description="Its place in the list that was sent, from 0.")
    code: str = field(
        description="What a request with it would be refused with: GRAPHQL_PARSE_FAILED, GRAPHQL_VALIDATION_FAILED, "
        "MAX_DEPTH_EXCEEDED, MAX_COST_EXCEEDED, BAD_USER_INPUT, or INSUFFICIENT_SCOPE for a field open to no app."
    )
    reason: str = field(description="For developers, in English, with line and column.")


@problem(
    partners.DocumentsInvalid,
    description="Documents that do not fit the API; none of the list was registered.",
)
class DocumentsInvalid(Problem):
    """Code DOCUMENTS_INVALID."""

    problems: list[DocumentFault] = field(description="One per faulty document, in their order.")


RegisterAppDocumentsResult = Annotated[
    AppDocumentsRegistered | DocumentsInvalid | NotFound | InvalidInput | Unavailable,
    strawberry.union("RegisterAppDocumentsResult", description="The documents, or why not."),
]
RemoveAppDocumentsResult = Annotated[
    AppDocumentsRemoved | NotFound | InvalidInput | Unavailable,
    strawberry.union("RemoveAppDocumentsResult", description="How many went, or why not."),
]


@strawberry.type
class AppDocumentMutation:
    """Writes; each is a row of the audit log. Never open to apps themselves."""

    register_app_documents: RegisterAppDocumentsResult = mutation_field(
        resolve.register,
        who=Who.MERCHANT,
        description="Register documents that the app then runs by `documentId`; what is registered already stays. "
        "Problems: DOCUMENTS_INVALID, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The app and its documents."},
        cost=20,
    )
    remove_app_documents: RemoveAppDocumentsResult = mutation_field(
        resolve.remove,
        who=Who.MERCHANT,
        description="Take documents away from an app. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The app and the ids."},
        cost=5,
    )
