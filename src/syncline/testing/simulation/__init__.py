"""A seeded simulation: the real server code and the real replica code on real SQLite files, a virtual clock, and
a network that drops, doubles, reorders and breaks. After every event each device is compared with an oracle:

    a device's rows = the cut that its cursor names + its own mutations that this cut does not include

`run(seed, folder)` plays one history; it raises `BrokenPromiseError` with the promise and what differed.
"""

from syncline.testing.simulation.history import Simulation, run
from syncline.testing.simulation.oracle import BrokenPromiseError

__all__ = ["BrokenPromiseError", "Simulation", "run"]
