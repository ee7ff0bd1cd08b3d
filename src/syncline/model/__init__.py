"""What tables, scopes, merging and the program mean: pure functions and data, no I/O, no clock."""
