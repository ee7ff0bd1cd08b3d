"""When the device has a network, and whether it is a good moment: a port, and what listens behind it."""
