"""A SQLite file as the source."""
