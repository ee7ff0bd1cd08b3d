"""The wire: messages, frames and their version. Knows no database, no asyncio, no HTTP."""
