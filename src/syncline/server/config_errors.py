"""Turning what pydantic found into messages for people: file, line, key, and the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from syncline.errors import ConfigError
from syncline.model.identifiers import nearest
from syncline.server.config_models import NOT_YET, SECTIONS, VALUES_NOT_YET
from syncline.server.config_positions import Place, line_of
from syncline.server.config_settings import ConfigProblemsError, Document

_KINDS = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


def section_of(place: Place) -> str:
    """How the file names the table around a place: `[scope.caseload.tables] visits`."""
    names = [str(part) for part in place if not isinstance(part, int)]
    if len(names) >= 4 and names[0] == "scope" and names[2] == "tables":
        return f"[scope.{names[1]}.tables] {names[3]}"
    if len(names) >= 2 and names[0] == "columns":
        return f"[columns] {names[1]}"
    depth = 2 if names and names[0] in ("scope", "table", "merge") else 1
    return f"[{'.'.join(names[:depth])}]" if names else "The file"


def problem(document: Document, place: Place, message: str, hint: str = "", code: str = "config") -> ConfigError:
    """An error that names the line of `place`."""
    return ConfigError(f"{document.where(place)}: {message}", hint=hint, code=code)


def raise_problems(document: Document, problems: Iterable[ConfigError]) -> None:
    """Raise what there is: one error as it is, several as one that lists them."""
    found = tuple(problems)
    if len(found) == 1:
        raise found[0]
    if found:
        raise ConfigProblemsError(document.name, found)


def problems_of_validation(document: Document, error: ValidationError) -> list[ConfigError]:
    """One ConfigError per mistake that pydantic found, in the order of the file."""
    details = error.errors(include_url=False)
    by_line = sorted(details, key=lambda detail: line_of(document.positions, detail["loc"]) or 0)
    return [_problem_of(document, detail) for detail in by_line]


def _problem_of(document: Document, detail: Mapping[str, Any]) -> ConfigError:
    place: Place = detail["loc"]
    kind: str = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    section = section_of(place[:-1])
    key = str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        return _unknown_key(document, place, section)
    if kind == "missing":
        return _missing_key(document, place, section)
    if kind == "literal_error":
        return _wrong_choice(document, place, section, detail["input"], context["expected"])
    if kind == "syncline":
        return problem(document, place, f"{section_of(place)}: {context['message']}", context["hint"], context["code"])
    if kind in _KINDS:
        what = _name_of(place, section, key)
        return problem(
            document, place, f"{what} must be {_KINDS[kind]}, not {_type_name(detail['input'])}.", code="wrong_type"
        )
    return problem(
        document, place, f"{_name_of(place, section, key)} {_wrong_value(kind, context)}.", code="wrong_value"
    )


def _wrong_value(kind: str, context: Mapping[str, Any]) -> str:
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_too_long":
        return f"must be at most {context['max_length']} characters long"
    if kind == "less_than_equal":
        return f"must be at most {context['le']:g}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']:g}"
    return "is not valid"


def _name_of(place: Place, section: str, key: str) -> str:
    if isinstance(place[-1], int):
        return f"{_name_of(place[:-1], section_of(place[:-2]), str(place[-2]))}, entry {place[-1] + 1},"
    if section_of(place).endswith(f"] {key}"):
        return section_of(place)
    return section_of(place) if len(place) == 1 else f"{section} {key}"


def _matches(pattern: tuple[str, ...], place: Place) -> bool:
    return len(pattern) == len(place) and all(want in ("*", part) for want, part in zip(pattern, place, strict=True))


def not_yet(place: Place) -> str:
    """What stands at a place that a later version will have; empty otherwise."""
    return next((what for pattern, what in NOT_YET.items() if _matches(pattern, place)), "")


def _unknown_key(document: Document, place: Place, section: str) -> ConfigError:
    key = str(place[-1])
    later = not_yet(place)
    name = f"[{key}]" if len(place) == 1 else f"{section} {key}"
    if later:
        return problem(document, place, f"{name}: {later} is not in this version yet.", "Remove the line.", "not_yet")
    model = next((model for pattern, model in SECTIONS.items() if _matches(pattern, place[:-1])), None)
    known = list(model.model_fields) if model else []
    hint = (nearest(key, known) or f" Known: {', '.join(known)}.").strip()
    if len(place) == 1:
        return problem(document, place, f"There is no section [{key}].", hint, "unknown_section")
    return problem(document, place, f'{section} has no option "{key}".', hint, "unknown_option")


def _missing_key(document: Document, place: Place, section: str) -> ConfigError:
    if place[0] == "source":
        hint = 'Write url = "sqlite:///clinic.db" under [source], or set SYNCLINE_SOURCE_URL.'
        return problem(document, place, "[source] url is missing.", hint, "missing_option")
    return problem(document, place, f"{section} {place[-1]} is missing.", code="missing_option")


def _wrong_choice(document: Document, place: Place, section: str, value: Any, expected: str) -> ConfigError:
    name = f"{section} {place[-1]}"
    later = next((values for pattern, values in VALUES_NOT_YET.items() if _matches(pattern, place)), ())
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    wanted = " or ".join(f'"{choice}"' for choice in choices)
    if value in later:
        return problem(document, place, f'{name} = "{value}" is not in this version yet.', f"Use {wanted}.", "not_yet")
    shown = f'"{value}"' if isinstance(value, str) else _type_name(value)
    close = difflib.get_close_matches(str(value), choices, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else ""
    return problem(document, place, f"{name} must be {wanted}, not {shown}.", hint, "wrong_value")


def _type_name(value: Any) -> str:
    if isinstance(value, float):
        return "a number with a fraction"
    names = {bool: "true or false", str: "text", int: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")
