"""Names, keys and schemas as companies have them on PostgreSQL: each table reaches the devices, and back (P1, P16)."""

from __future__ import annotations

import psycopg
import pytest
from tests.postgres.ways import ONE_VERSION, OpenTown, Town, Ways, everybody, for_everybody

from syncline.model.identifiers import quote
from syncline.model.scopes import LinkConfig, PlanConfig, ScopeConfig, TableConfig

LONGEST = "a" * 63
LONGEST_TOO = "a" * 62 + "b"
NAMES = (
    *(
        "Patient",
        "PATIENT",
        "visits 2026",
        "größe",
        "患者",
        'say "hi"',
        "it's",
        "select",
        "table",
        "user",
        "order",
        "a.b",
    ),
    *(
        "changelog",
        "entry",
        "meta",
        "syncline",
        "new",
        "old",
        "t$1",
        "100%",
        "%s",
        "$1",
        ":sub",
        "back\\slash",
        "x;--",
        LONGEST,
    ),
)
COLUMNS = (
    *(
        "START",
        "DATE",
        "select",
        "k_1",
        "o_1",
        "m_0",
        "op",
        "txid",
        "stamp",
        "writer",
        "id",
        "key",
        "bucket",
        "checkpoint",
    ),
    *(
        "image",
        "layout",
        "table_name",
        "xmin_",
        "New",
        "OLD",
        "größe",
        "with space",
        'quo"te',
        "per%cent",
        "do$lar",
        "a.b",
    ),
    *("rowid_", "v", "t", "s", "c", "n", "old_rows", "new_rows", "value", "now", "user", "x" * 63),
)

TEXTS = (
    "",
    " ",
    "NULL",
    "\\N",
    "a\tb\nc\rd",
    "\u0001\u001f\u007f",
    "'\"`$$%s:sub",
    "😀👩‍👩‍👧",
    "\u202e\ufeff\u2028",
    "İıß",
    "\ufffd",
)


class TestNames(Ways):
    @ONE_VERSION
    @pytest.mark.parametrize("names", [NAMES[::2], NAMES[1::2]], ids=["one half", "the other half"])
    def test_tables_of_any_name(self, open_town: OpenTown, names: tuple[str, ...]) -> None:
        """P1, P16: down and up."""
        tables = [quote(name) for name in names]
        made = [f"CREATE TABLE {table}(id integer PRIMARY KEY, body text)" for table in tables]
        first = [f"INSERT INTO {table} VALUES(1, 'first')" for table in tables]
        town = open_town((*made, *first), for_everybody(*names))
        everything = dict.fromkeys(names, "true")
        ann = town.phone("ann")
        for table in tables:
            town.execute(
                f"INSERT INTO {table} VALUES(2, 'second')", f"UPDATE {table} SET id = 3, body = 'x' WHERE id = 1"
            )
        town.agrees(ann, everything)
        for table in tables:
            ann.execute(f"UPDATE {table} SET body = 'by the phone' WHERE id = 2")
            ann.execute(f"INSERT INTO {table} VALUES(4, 'new')")
            ann.execute(f"DELETE FROM {table} WHERE id = 3")
        town.agree([ann], everything)
        for table in tables:
            assert town.ask(f"SELECT * FROM {table} ORDER BY id") == [(2, "by the phone"), (4, "new")], table

    def test_names_that_differ_at_the_end_or_in_case_are_kept_apart(self, open_town: OpenTown) -> None:
        """P1: on the source; a device's SQLite knows no case, so only one of two such tables can be on it."""
        town = open_town(
            (
                *(f"CREATE TABLE {name}(id integer PRIMARY KEY, body text)" for name in (LONGEST, LONGEST_TOO)),
                'CREATE TABLE "Visits"(id integer PRIMARY KEY)',
                "CREATE TABLE visits(id integer PRIMARY KEY)",
            ),
            for_everybody(LONGEST, LONGEST_TOO, "visits"),
        )
        ann = town.phone("ann")
        town.execute(
            f"INSERT INTO {LONGEST} VALUES(1, 'a')",
            f"INSERT INTO {LONGEST_TOO} VALUES(2, 'b')",
            'INSERT INTO "Visits" VALUES(7)',
            "INSERT INTO visits VALUES(8)",
        )
        town.agree([ann], {LONGEST: "true", LONGEST_TOO: "true", "visits": "true"})
        assert ann.execute("SELECT * FROM visits") == [(8,)]

    def test_columns_of_any_name(self, open_town: OpenTown) -> None:
        """P1, P16: also as keys and as what scopes join on, where capture keeps their old values."""
        columns = ", ".join(f"{quote(name)} text" for name in COLUMNS)
        town = open_town(
            (
                f'CREATE TABLE parents({columns}, PRIMARY KEY("START", "k_1"))',
                f'CREATE TABLE children({columns}, PRIMARY KEY("op", "txid", "select"))',
                'CREATE INDEX ON children("k_1", "DATE")',
                "INSERT INTO parents(\"START\", \"k_1\") VALUES('a', 'b'), ('c', 'd')",
                "INSERT INTO children(op, txid, \"select\", \"k_1\", \"DATE\") VALUES('1', '2', '3', 'a', 'b')",
            ),
            PlanConfig(
                (
                    ScopeConfig(
                        "mine",
                        {"children": TableConfig((LinkConfig(parent="parents", on={"k_1": "START", "DATE": "k_1"}),))},
                        root="parents",
                        grant='SELECT "START", "k_1" FROM parents WHERE "START" = \'a\' OR :sub = \'nobody\'',
                    ),
                )
            ),
        )
        hers = 'SELECT "START", "k_1" FROM parents WHERE "START" = \'a\''
        mine = {"parents": "\"START\" = 'a'", "children": f'("k_1", "DATE") IN ({hers})'}
        ann = town.phone("ann")
        assignments = ", ".join(
            f"{quote(name)} = 'v{n}'" for n, name in enumerate(COLUMNS) if name not in ("k_1", "DATE")
        )
        for statement in (
            f"UPDATE children SET {assignments}",
            "INSERT INTO children(op, txid, \"select\", \"k_1\", \"DATE\") VALUES('x', 'y', 'z', 'c', 'd')",
            "UPDATE children SET \"k_1\" = 'a', \"DATE\" = 'b' WHERE op = 'x'",
            "UPDATE parents SET \"START\" = 'gone' WHERE \"k_1\" = 'b'",
            "UPDATE parents SET \"START\" = 'a' WHERE \"k_1\" = 'b'",
        ):
            town.execute(statement)
            town.agree([ann], mine)
        ann.execute("UPDATE children SET \"with space\" = 'mine', \"New\" = 'mine' WHERE op = 'x'")
        town.agree([ann], mine)
        assert town.ask("SELECT \"with space\" FROM children WHERE op = 'x'") == [("mine",)]


class TestSchemas(Ways):
    def test_tables_of_several_schemas(self, open_town: OpenTown) -> None:
        """P1: the same name in two schemas are two tables; a foreign key may cross."""
        town = open_town(
            (
                'CREATE SCHEMA ward; CREATE SCHEMA "Odd Schema"',
                "CREATE TABLE visits(id integer PRIMARY KEY, body text)",
                "CREATE TABLE ward.visits(id integer PRIMARY KEY, body text, visit integer REFERENCES public.visits)",
                'CREATE TABLE "Odd Schema"."Odd.Table"(id integer PRIMARY KEY, body text)',
                "INSERT INTO visits VALUES(1, 'public')",
                "INSERT INTO ward.visits VALUES(1, 'ward', 1)",
            ),
            for_everybody("visits", "ward.visits", "Odd Schema.Odd.Table"),
        )
        everything = {"visits": "true", "ward.visits": "true", "Odd Schema.Odd.Table": "true"}
        ann = town.phone("ann")
        town.execute(
            "UPDATE visits SET body = 'p'",
            "SET search_path = ward",
            "UPDATE visits SET body = 'w'",
            'SET search_path = "Odd Schema", pg_catalog',
            "INSERT INTO \"Odd.Table\" VALUES(1, 'odd')",
            "RESET search_path",
        )
        town.agrees(ann, everything)
        ann.execute("UPDATE \"ward.visits\" SET body = 'from the phone'")
        ann.execute("INSERT INTO \"Odd Schema.Odd.Table\" VALUES(2, 'from the phone')")
        town.agree([ann], everything)
        assert town.ask("SELECT body FROM ward.visits") == [("from the phone",)]
        assert town.ask("SELECT body FROM visits") == [("p",)]

    def test_a_schema_of_ours_that_is_not_ours(self, open_town: OpenTown) -> None:
        """P15: a company's own schema of that name is neither taken over nor removed."""
        with pytest.raises(Exception, match="syncline"):
            open_town(
                (
                    "CREATE SCHEMA syncline",
                    "CREATE TABLE syncline.ledger(id integer PRIMARY KEY)",
                    "CREATE TABLE visits(id integer PRIMARY KEY)",
                ),
                for_everybody("visits"),
            )


class TestKeys(Ways):
    @ONE_VERSION
    @pytest.mark.parametrize(
        ("declared", "first", "second", "moved"),
        [
            ("a integer, c text, b text, PRIMARY KEY(a, c)", "(1, 'x', '')", "(1, 'y', '')", "c = c || '!'"),
            (
                "a uuid PRIMARY KEY, b text",
                "('5e1b7c3a-0000-4000-8000-000000000001', 'x')",
                "(gen_random_uuid(), 'y')",
                "a = gen_random_uuid()",
            ),
            (
                "a bigint PRIMARY KEY, b text",
                "(9223372036854775807, 'x')",
                "(-9223372036854775808, 'y')",
                "a = -(a / 2)",
            ),
            ("a text PRIMARY KEY, b text", "('', 'x')", "(E'\\u00e4\\n\"', 'y')", "a = a || 'ß'"),
            ("a varchar(20) PRIMARY KEY, b text", "('one', 'x')", "('two', 'y')", "a = upper(a)"),
            ("a char(8) PRIMARY KEY, b text", "('one', 'x')", "('two', 'y')", "a = upper(a)"),
            ("a numeric(12,3) PRIMARY KEY, b text", "(1.500, 'x')", "(2, 'y')", "a = a + 0.125"),
            ("a date PRIMARY KEY, b text", "('2026-11-22', 'x')", "('0044-03-15 BC', 'y')", "a = a + 1"),
            ("a boolean PRIMARY KEY, b text", "(true, 'x')", "(false, 'y')", "b = b || a"),
            ("a smallint, b text, c integer, PRIMARY KEY(c, a)", "(1, 'x', 5)", "(2, 'y', 6)", "c = c + 10, a = a + 1"),
        ],
        ids=["two columns", "uuid", "bigint", "text", "varchar", "char", "numeric", "date", "boolean", "not in order"],
    )
    def test_keys_of_many_types_change(
        self, open_town: OpenTown, declared: str, first: str, second: str, moved: str
    ) -> None:
        """P1, P13: old key gone, new key there, down and up."""
        town = open_town(
            (f"CREATE TABLE things({declared})", f"INSERT INTO things VALUES{first}"), for_everybody("things")
        )
        # Texts as a replica shows them are the subject of the tests of types; here the number of rows has to be right.
        ann = town.phone("ann")
        for statement in (
            f"INSERT INTO things VALUES{second}",
            f"UPDATE things SET {moved}",
            f"UPDATE things SET {moved}",
        ):
            town.execute(statement)
            ann.sync()
            assert ann.execute("SELECT count(*) FROM things") == [(2,)]
        ann.execute("UPDATE things SET b = 'from the phone'")
        ann.sync()
        assert town.ask("SELECT DISTINCT b FROM things") == [("from the phone",)]
        ann.execute("DELETE FROM things")
        ann.sync()
        assert town.ask("SELECT count(*) FROM things") == [(0,)]
        assert ann.rejections() == []

    def test_tables_that_cannot_sync_are_refused_with_a_reason(self, open_town: OpenTown) -> None:
        """P15: before anything is installed; the others go on."""
        town = open_town(
            (
                "CREATE TABLE good(id integer PRIMARY KEY)",
                "CREATE TABLE keyless(id integer)",
                "CREATE TABLE soft(id interval PRIMARY KEY)",
                "CREATE TABLE sticky(id double precision PRIMARY KEY)",
                "CREATE VIEW seen AS SELECT * FROM good",
                "CREATE MATERIALIZED VIEW kept AS SELECT * FROM good",
                "CREATE TEMPORARY TABLE passing(id integer PRIMARY KEY)",
                "CREATE UNLOGGED TABLE quick(id integer PRIMARY KEY)",
            ),
            for_everybody("good"),
        )
        schema = town.wait(town.source.introspect())
        assert not {"seen", "kept", "passing", "pg_temp.passing"} & {table.name for table in schema.tables.values()}
        for name in ("keyless", "soft", "sticky"):
            with pytest.raises(Exception, match=name) as refused:
                open_town((), for_everybody("good", name))
            assert "key" in str(refused.value)
        town.agree([town.phone("ann")], {"good": "true"})


class TestText(Ways):
    @ONE_VERSION
    def test_text_of_any_characters(self, open_town: OpenTown) -> None:
        """P16: as a value, as a key, as a bucket's name, and in the old value of a changed key."""
        town = open_town(
            (
                "CREATE TABLE places(name text PRIMARY KEY, body text)",
                "CREATE TABLE beds(id integer PRIMARY KEY, place text REFERENCES places ON UPDATE CASCADE)",
                "CREATE INDEX ON beds(place)",
            ),
            PlanConfig(
                (
                    ScopeConfig(
                        "mine",
                        {"beds": TableConfig((LinkConfig(parent="places"),))},
                        root="places",
                        grant="SELECT name FROM places WHERE :sub = 'ann'",
                    ),
                    everybody("places"),
                )
            ),
        )
        everything = {"places": "true", "beds": "true"}
        ann = town.phone("ann")
        for number, text in enumerate(TEXTS):
            town.host.execute("INSERT INTO places VALUES(%s, %s)", (text, text))
            town.host.execute("INSERT INTO beds VALUES(%s, %s)", (number, text))
        town.agrees(ann, everything)
        for text in TEXTS:
            ann.execute("UPDATE places SET body = ? WHERE name = ?", (text + text, text))
        town.agrees(ann, everything)
        assert town.ask("SELECT count(*) FROM places WHERE body = name || name") == [(len(TEXTS),)]
        for text in TEXTS:
            town.host.execute("UPDATE places SET name = 'other' || name, body = %s WHERE name = %s", (text[::-1], text))
        town.agree([ann], everything)
        assert {body for (body,) in town.ask("SELECT body FROM places")} == {text[::-1] for text in TEXTS}


class TestEncodings(Ways):
    def test_a_latin1_database(self, open_town: OpenTown, make_postgres: object) -> None:
        """P16: what it can hold arrives; what it cannot is refused, and nothing else is held up by it (P18)."""
        database = make_postgres(encoding="LATIN1")  # type: ignore[operator]
        town: Town = open_town(
            (
                'CREATE TABLE "größe"(id integer PRIMARY KEY, "wärme" text)',
                "INSERT INTO \"größe\" VALUES(1, 'Müller'), (2, 'Ångström ½')",
            ),
            for_everybody("größe"),
            database=database,
        )
        ann = town.phone("ann")
        town.execute('UPDATE "größe" SET "wärme" = \'ÄÖÜ\' WHERE id = 1')
        town.agrees(ann, {"größe": "true"})
        ann.execute('UPDATE "größe" SET "wärme" = \'ß\' WHERE id = 1')
        ann.execute("INSERT INTO \"größe\" VALUES(3, '😀')")
        ann.execute("INSERT INTO \"größe\" VALUES(4, 'é')")
        town.agree([ann], {"größe": "true"})
        assert len(ann.rejections()) == 1
        assert town.ask('SELECT * FROM "größe" ORDER BY id') == [(1, "ß"), (2, "Ångström ½"), (4, "é")]

    def test_sql_ascii_is_refused(self, open_town: OpenTown, make_postgres: object) -> None:
        """P16: it says nothing of what its bytes mean."""
        database = make_postgres(encoding="SQL_ASCII")  # type: ignore[operator]
        with pytest.raises(Exception, match="SQL_ASCII"):
            open_town(("CREATE TABLE visits(id integer PRIMARY KEY)",), for_everybody("visits"), database=database)
        with psycopg.connect(database.url) as db:
            assert db.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'syncline'").fetchall() == [(0,)]
