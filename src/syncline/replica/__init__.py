"""The device's side: the file, its outbox, applying what the server sends, and the agent that keeps both in step."""
