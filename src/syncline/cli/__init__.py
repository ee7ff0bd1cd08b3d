"""The `syncline` command: one module per verb. Server packages are imported only by the verbs that need them."""
