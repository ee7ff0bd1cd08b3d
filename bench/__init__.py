"""Benchmarks: `python -m bench` (or `make bench`). Every figure stands beside a raw SQLite figure of the same run."""
