"""Where log lines go: the standard library's loggers under "syncline". Values of rows are never logged."""

from __future__ import annotations

import logging


def logger(name: str) -> logging.Logger:
    """`name` is the part after "syncline.", for example "sequencer"."""
    return logging.getLogger(f"syncline.{name}")
