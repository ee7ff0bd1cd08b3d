"""The version of the wire format. A test holds the shapes of all messages; changing one means a new number here.

1  the first
2  paged downloads (`stage`), bundles of frames, ids of mutations in `hello` and `commit`, names of key columns
"""

PROTOCOL_VERSION = 2
