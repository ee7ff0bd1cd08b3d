"""The version of the wire format. A test holds the shapes of all messages; changing one means a new number here.

1  the first
"""

PROTOCOL_VERSION = 1
