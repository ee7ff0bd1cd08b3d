"""The company's own programs beside us: publications and subscribers, dumps of its own roles, dumps without our schema.
P2, P15, P20."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.postgres.capturing import TABLES, clinic_on
from tests.postgres.conftest import HostDatabase
from tests.postgres.test_provision_by_hand import dump

MakeDatabase = Callable[..., HostDatabase]


# ---------------------------------------------------------------- publications
def test_a_publication_for_all_tables_stops_no_checkpoint(postgres: HostDatabase) -> None:
    """As Debezium makes one. All our queues are emptied: of a table, of a page's marker, of an upload, of a gap."""
    with clinic_on(postgres) as clinic:
        clinic.provision()
        clinic.wait(clinic.source.attach(clinic.plan))
        assert clinic.wait(clinic.source.begin_term("one"))
        clinic.wait(clinic.source.take_checkpoint("one"))
        clinic.execute("CREATE PUBLICATION everything FOR ALL TABLES", "UPDATE drugs SET name = 'x'", "TRUNCATE drugs")
        clinic.execute("INSERT INTO syncline.upload(device) VALUES ('d')", "INSERT INTO syncline.marker(id) VALUES (1)")
        checkpoint = clinic.wait(clinic.source.take_checkpoint("one"))
        assert checkpoint
        assert checkpoint.tables == checkpoint.raised == {"drugs"}
        assert clinic.wait(clinic.source.take_checkpoint("one")) is None
        found = {each.code: each for each in clinic.wait(clinic.source.diagnose(clinic.plan))}
        assert found["schema_published"].is_note
        assert '"everything"' in found["schema_published"].what
        clinic.wait(clinic.source.end_term("one"))
        clinic.execute("DROP PUBLICATION everything")
        assert clinic.wait(clinic.source.deprovision())


def test_what_was_put_in_without_a_replica_identity_gets_one(postgres: HostDatabase) -> None:
    """As of an installation of before; nothing is sent anew for it."""
    with clinic_on(postgres) as clinic:
        clinic.provision()
        queues = ("marker", "upload", "gap", "changelog_drugs", "changelog_visits")
        clinic.execute(*(f"ALTER TABLE syncline.{name} REPLICA IDENTITY DEFAULT" for name in queues))
        clinic.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        clinic.wait(clinic.source.attach(clinic.plan))
        assert clinic.wait(clinic.source.begin_term("one"))
        found = {each.code: each for each in clinic.wait(clinic.source.diagnose(clinic.plan))}
        assert not found["schema_published"].is_note
        clinic.execute("DELETE FROM drugs")
        assert clinic.provision().anew == ()
        checkpoint = clinic.wait(clinic.source.take_checkpoint("one"))
        assert checkpoint
        assert (checkpoint.tables, checkpoint.changes) == ({"drugs"}, 2)
        clinic.wait(clinic.source.end_term("one"))
        clinic.execute("DROP PUBLICATION everything")
        assert clinic.wait(clinic.source.deprovision())


# ---------------------------------------------------------------- dumps
@pytest.fixture
def owner(postgres: HostDatabase) -> Iterator[str]:
    """The application's own role, whose nightly pg_dump is the company's backup; somebody else provisions."""
    name = f"app_{postgres.name}"
    postgres.server.create_role(name)
    postgres.execute(f'GRANT CREATE ON SCHEMA public TO "{name}"')
    yield name
    postgres.execute(f'DROP OWNED BY "{name}" CASCADE; DROP ROLE "{name}"')


def dumps(database: HostDatabase, user: str, *options: str) -> bool:
    url = database.server.address(database.name, user).url
    try:
        return bool(database.server.run("pg_dump", *options, url).stdout)
    except subprocess.CalledProcessError as error:
        assert "permission denied" in error.stderr
        return False


@pytest.mark.parametrize("remedy", ["GRANT pg_read_all_data", "--exclude-schema"])
def test_the_owners_own_dump_works_again_with_either_remedy(postgres: HostDatabase, owner: str, remedy: str) -> None:
    with clinic_on(postgres, (f'SET ROLE "{owner}"', *TABLES, "RESET ROLE")) as clinic:
        assert dumps(postgres, owner)
        clinic.provision()
        assert any(f'A pg_dump of the whole database by "{owner}"' in text for text in clinic.told)
        assert not dumps(postgres, owner)
        [note] = [e for e in clinic.wait(clinic.source.diagnose(clinic.plan)) if e.code == "backup_rights"]
        assert note.is_note
        if remedy == "--exclude-schema":
            assert dumps(postgres, owner, "--exclude-schema=syncline")
        else:
            assert f'GRANT pg_read_all_data TO "{owner}";' in note.remedy
            clinic.execute(f'GRANT pg_read_all_data TO "{owner}"')
            assert dumps(postgres, owner)
            found = clinic.wait(clinic.source.diagnose(clinic.plan))
            assert "backup_rights" not in {each.code for each in found}
        assert clinic.wait(clinic.source.deprovision())


def test_a_dump_without_our_schema_is_restored_and_provisioned_anew(
    postgres: HostDatabase, make_postgres: MakeDatabase
) -> None:
    """The commands of docs/postgresql.md. Left alone, each trigger is an error, and all rows are there all the same."""
    with clinic_on(postgres) as clinic:
        before = dump(postgres)
        clinic.provision()
        dumped = postgres.server.folder / f"{postgres.name}.dump"
        listed = postgres.server.folder / f"{postgres.name}.list"
        postgres.server.run("pg_dump", "--format=custom", "--exclude-schema=syncline", f"--file={dumped}", postgres.url)
        contents = postgres.server.run("pg_restore", "--list", str(dumped)).stdout
        kept = [line for line in contents.splitlines() if not (" TRIGGER " in line and " syncline_" in line)]
        listed.write_text("\n".join(kept))
        listed.chmod(0o644)
        assert len(kept) == len(contents.splitlines()) - 4 * 4
        clean, loud = make_postgres(), make_postgres()
        options = ("--exit-on-error", "--single-transaction", f"--use-list={listed}")
        postgres.server.run("pg_restore", *options, f"--dbname={clean.url}", str(dumped))
        done = postgres.server.run("pg_restore", f"--dbname={loud.url}", str(dumped), check=False)
        assert done.returncode == 1
        assert 'schema "syncline" does not exist' in done.stderr
        for copy in (clean, loud):
            assert dump(copy) == before
            assert copy.execute("SELECT count(*) FROM patients") == [(2,)]
            with clinic_on(copy, ()) as restored:
                assert set(restored.provision().created) == {"patients", "visits", "drugs", "assignments"}
                restored.wait(restored.source.attach(restored.plan))
                copy.execute("UPDATE drugs SET name = 'x'")
                assert restored.changes("drugs") == [("U", "a"), ("U", "b")]
        clinic.wait(clinic.source.deprovision())
