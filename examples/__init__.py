"""Runnable examples; each is a package of its own and uses Syncline only by its public face."""
