"""What tests/fuzz has to be told of the contract and the tables: new ids, new texts."""

from __future__ import annotations

from graphql import GraphQLInputObjectType, GraphQLObjectType, get_named_type

from domain.core import db as core
from schema.root import schema
from tests.fuzz import stage
from tests.fuzz.grammar import PREFIXES

GRAPH = schema._schema


def test_every_id_of_the_contract_is_asked_with_ids_of_its_kind() -> None:
    """A new argument that takes an id fails here: say in tests/fuzz/grammar.py which kind."""
    inputs = [one for one in GRAPH.type_map.values() if isinstance(one, GraphQLInputObjectType)]
    objects = [one for one in GRAPH.type_map.values() if isinstance(one, GraphQLObjectType)]
    given = [pair for one in inputs for pair in one.fields.items()]
    given += [
        pair for one in objects for field in one.fields.values() for pair in field.args.items()
    ]
    taken = {name for name, one in given if get_named_type(one.type).name == "ID"}

    assert taken == set(PREFIXES)


async def test_every_text_of_a_merchant_is_marked_or_there_is_a_reason(db: None) -> None:
    """A new column fails here: say in tests/fuzz/columns.json whether somebody wrote it, and who reads it."""
    rows = await core.fetch(
        "SELECT c.relname::text AS name, a.attname::text AS part FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
        " AND t.typname IN ('text', 'varchar', 'jsonb', '_text', '_varchar')"
        " AND (c.relname = ANY($1) OR EXISTS (SELECT FROM pg_attribute m"
        "      WHERE m.attrelid = c.oid AND m.attname = 'merchant_id' AND NOT m.attisdropped))",
        list(stage.OWNED),
    )
    listed = {(table, part) for table, kinds in stage.columns().items() for part in kinds}

    assert listed == {(row["name"], row["part"]) for row in rows}
