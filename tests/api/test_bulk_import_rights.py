"""A mutation for every line of a file: which mutations, whose files, and at the rights of that moment.

CASES H01, H14, H20.
"""

from __future__ import annotations

from typing import Any

import pytest

from domain import bulk, identity
from domain.bulk import rules
from domain.core import db as core
from domain.identity import Role
from resolvers.bulk import IMPORTABLE
from schema.root import schema
from server.graphql.bulk import Contract
from tests import make
from tests.api import bulk_desk
from tests.api.bulk_desk import PRODUCT, app, person, work
from tests.api.test_bulk_import import jsonl, product, titles


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\n\n", "BulkFileInvalid"), (b"{}\n" * 100_001, "BulkFileInvalid")]
)
async def test_a_file_that_cannot_be_taken_starts_nothing_and_waits_on(
    db: None, content: bytes, kind: str
) -> None:
    of = await make.shop()
    owner = await person(of)

    refused = await owner.import_(PRODUCT, content)

    assert (refused["__typename"], refused["code"], refused["max"]) == (
        kind,
        "BULK_FILE_INVALID",
        100_000,
    )
    assert await core.value("SELECT count(*) FROM bulk_job") == 0
    assert await core.value("SELECT count(*) FROM upload") == 1


async def test_h01_another_persons_upload_and_another_merchants_things_are_not_found(
    db: None,
) -> None:
    of, other = await make.shop(), await make.shop()
    owner, colleague = await person(of), await person(of)
    # One account, two merchants: a job is about one of them.
    await identity.grant(other.merchant_id, owner.viewer.account_id, Role.OWNER)
    upload = await colleague.upload(jsonl(product(of, "Mine")))

    given = {"merchantId": owner.merchant, "mutation": PRODUCT, "uploadId": upload}
    foreign = await owner.data(bulk_desk.IMPORT, {"input": given, "key": "k"})
    begun = await owner.import_(PRODUCT, jsonl(product(other, "Theirs"), product(of, "Ours")))
    await work()

    assert (foreign["code"], foreign["path"]) == ("NOT_FOUND", ["input", "uploadId"])
    lines = await owner.lines(begun["id"])
    assert lines[0]["data"]["createProduct"] == {"__typename": "NotFound", "code": "NOT_FOUND"}
    assert (await titles(other), await titles(of)) == ([], ["Ours"])


async def test_who_may_not_starts_nothing(db: None) -> None:
    of = await make.shop()
    reader = await person(of, Role.READ_ONLY)
    given = {"merchantId": reader.merchant, "mutation": PRODUCT}
    given["uploadId"] = await reader.upload(jsonl(product(of, "No")))

    answer = await reader.ask(bulk_desk.IMPORT, {"input": given, "key": "k"})

    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert await core.value("SELECT count(*) FROM bulk_job") == 0


async def test_h14_a_role_that_is_lost_on_the_way_ends_the_import(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "BATCH_ROWS", 2)
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    of = await make.shop()
    clerk = await person(of, Role.CATALOGUE)
    begun = await clerk.import_(PRODUCT, jsonl(*(product(of, f"P{no}") for no in range(6))))
    await bulk.turn()

    await core.execute(
        "UPDATE membership SET role = 'support' WHERE account_id = $1", clerk.viewer.account_id
    )
    await work()
    job = await clerk.job(begun["id"])

    assert (job["state"], job["done"], job["problem"]["code"], job["url"]) == (
        "FAILED",
        2,
        "FORBIDDEN",
        None,
    )
    assert await titles(of) == ["P0", "P1"]
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 0, "bulk_input": 0}


async def test_h20_an_app_imports_with_the_scope_of_the_mutation(db: None) -> None:
    of = await make.shop()
    reader = await app(of, "catalogue:read")
    writer = await app(of, "catalogue:read", "catalogue:write")
    given = {"merchantId": reader.merchant, "mutation": PRODUCT}
    given["uploadId"] = await reader.upload(jsonl(product(of, "No")))

    refused = await reader.ask(bulk_desk.IMPORT, {"input": given, "key": "k"})
    begun = await writer.import_(PRODUCT, jsonl(product(of, "Yes")))
    await work()

    extensions = refused["errors"][0]["extensions"]
    assert (extensions["code"], extensions["scope"]) == ("INSUFFICIENT_SCOPE", "catalogue:write")
    assert (await writer.job(begun["id"]))["state"] == "DONE"
    assert await titles(of) == ["Yes"]
    keys = await core.fetch("SELECT scope FROM idempotency WHERE key LIKE 'blk_%:1'")
    app_ = writer.viewer.app
    assert app_ is not None
    assert [row["scope"] for row in keys] == [f"app:{app_.grant_id}:createProduct"]


def document(name: str, kind: str) -> str:
    return f"mutation ($input: {kind}) {{ {name}(input: $input) {{ __typename }} }}"


def test_exactly_the_listed_mutations_can_be_imported_and_each_is_safe_to_repeat() -> None:
    contract = Contract(schema)
    mutation = schema._schema.mutation_type
    assert mutation is not None
    taken = set()
    for name, field in mutation.fields.items():
        kind = str(field.args["input"].type) if "input" in field.args else "String"
        try:
            found = contract.check_import(document(name, kind))
        except bulk.MutationNotImportable:
            continue
        assert found == name
        taken.add(name)
        declared: Any = field.extensions["strawberry-definition"]
        assert declared.metadata["idempotent"]
        assert not declared.directives  # no fresh second factor, which no job has

    assert taken == set(IMPORTABLE)
    assert not taken & {"requestRefund", "inviteMember", "pay", "bulkImport", "replaceGood"}


@pytest.mark.parametrize(
    ("mutation", "reason"),
    [
        ("{ viewer { email } }", "It must be one mutation."),
        ("mutation { signOut { __typename } }", "signOut cannot be run per line."),
        (PRODUCT.replace("createProduct(", "a: createProduct("), None),
        (PRODUCT.replace("($input", "($input: String, $a"), "It takes one variable"),
        (PRODUCT.replace("input: $input)", 'input: {shopId: "x", texts: []})'), "It takes one"),
        (PRODUCT.replace("CreateProductInput!", "UpdateProductInput!"), "Variable '$input'"),
        (PRODUCT.replace("input: $input)", 'input: $input) @idempotent(key: "x")'), "is ours"),
        (PRODUCT.replace("__typename", "nothing"), "Cannot query field 'nothing'"),
        (PRODUCT.replace("$input", "$kamiRow"), "It takes one variable"),
        ("mutation {", "Syntax Error"),
    ],
)
async def test_what_cannot_be_imported_is_said(db: None, mutation: str, reason: str | None) -> None:
    of = await make.shop()
    owner = await person(of)

    found = await owner.import_(mutation, jsonl(product(of, "One")))

    if reason is None:
        assert found["__typename"] == "BulkJob"
        return
    assert (found["__typename"], found["code"], found["path"]) == (
        "MutationNotImportable",
        "MUTATION_NOT_IMPORTABLE",
        ["input", "mutation"],
    )
    assert reason in found["reason"]
    assert found["allowed"] == sorted(IMPORTABLE)
    assert await core.value("SELECT count(*) FROM bulk_job") == 0
