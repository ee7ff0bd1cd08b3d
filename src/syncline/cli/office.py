"""What `syncline conflicts` and `syncline rejections` have in common: list, show, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncline.cli.options import CONFIG_DEFAULT, LIMIT_DEFAULT, Config, Device, Json, Limit, User
from syncline.cli.output import as_json, print_json, print_line, print_note, print_table
from syncline.cli.records import Records, read_records
from syncline.cli.server_extra import server_extra
from syncline.errors import ConfigError

if TYPE_CHECKING:
    from syncline.source.port import RecordFilter, Source

EXPORT_LIMIT = 1_000_000

Id = Annotated[str, typer.Argument(help="Its id, as the list shows it.", metavar="ID")]
Out = Annotated[Path | None, typer.Option("--out", help="Write to this file instead.", metavar="FILE")]
Reader = Callable[["Source", "RecordFilter"], Any]


def read_office(
    config: Path, read: Reader, *, user: str | None = None, device: str | None = None, limit: int = EXPORT_LIMIT
) -> Records:
    """The records of that user or device, newest first; one without an id gets device and number for one."""
    with server_extra():
        from syncline.source.port import RecordFilter
    found = read_records(config, lambda source: read(source, RecordFilter(user=user, device=device, limit=limit)))
    return [{"id": f"{record['device']}:{record['number']}", **record} for record in found]


def office_app(noun: str, help_text: str, columns: tuple[str, ...], read: Reader, example: str) -> typer.Typer:
    """A verb that lists, with `show ID` and `export`."""
    app = typer.Typer(help=help_text, epilog=example, rich_markup_mode=None, invoke_without_command=True)

    @app.callback()
    def list_records(
        context: typer.Context,
        user: User = None,
        device: Device = None,
        limit: Limit = LIMIT_DEFAULT,
        config: Config = CONFIG_DEFAULT,
        json: Json = False,
    ) -> None:
        if context.invoked_subcommand is not None:
            return
        found = read_office(config, read, user=user, device=device, limit=limit)
        if json:
            print_json(found)
        else:
            print_table(found, columns, f"There are no {noun}s.")

    @app.command(help=f"One {noun}, with all its values.", epilog=f"Example: syncline {noun}s show 17")
    def show(id: Id, config: Config = CONFIG_DEFAULT, json: Json = False) -> None:  # noqa: A002 - the argument's name
        found = [record for record in read_office(config, read) if str(record["id"]) == id]
        if not found:
            raise ConfigError(f"There is no {noun} {id}.", hint=f"syncline {noun}s lists them.", code="unknown_record")
        if json:
            print_json(found[0])
            return
        for name, value in found[0].items():
            print_line(f"{name.replace('_', ' ')}: {value if value is not None else '-'}")

    @app.command(help=f"Every {noun} as one JSON list.", epilog=f"Example: syncline {noun}s export --out {noun}s.json")
    def export(out: Out = None, user: User = None, device: Device = None, config: Config = CONFIG_DEFAULT) -> None:
        found = read_office(config, read, user=user, device=device)
        if out is None:
            print_json(found)
            return
        write_export(out, found)
        print_note(f"Wrote {len(found)} to {out}.")

    return app


def write_export(out: Path, records: Records) -> None:
    """One JSON list into a file; ConfigError if it cannot be written."""
    try:
        out.write_text(as_json(records), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.", code="file_unwritable") from error
