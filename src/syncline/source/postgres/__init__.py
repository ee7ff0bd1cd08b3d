"""The source on a PostgreSQL database, through asyncpg."""
