"""A company's database, a real server and two devices in one process, for the tests of an app that uses Syncline.

with Pair(settings, folder) as pair:
    ann, ben = pair.devices
    ann.offline()
    ann.execute("UPDATE visits SET status = 'done'")
    ann.online()
    pair.settle()

`syncline.testing.fixtures` has it as a fixture of pytest's; nothing here needs pytest.
"""

from syncline.testing.pair.device import Device
from syncline.testing.pair.pair import Pair
from syncline.testing.pair.server import Server
from syncline.testing.pair.settings import PairSettings
from syncline.testing.pair.source import Source, Templates

__all__ = ["Device", "Pair", "PairSettings", "Server", "Source", "Templates"]
