"""For those who build on Syncline, and for its own tests: contract suites, a deterministic world, checkers."""
