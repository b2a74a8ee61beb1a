"""For authors of methods: a small scenario played in one process, a method on it, everything that it did at hand.

``record(module, config)`` plays a method to its end; ``Stage`` lets a test write the coroutines of its nodes itself.

recording  A method played on a stage with everything that its computations returned
stage      Nodes of a small scenario in one loop whose time jumps, without processes; what they record is kept
"""

from emulator.testing.recording import Recording, RecordingHost, record
from emulator.testing.stage import Stage, make_device, make_network, make_scenario

__all__ = ["Recording", "RecordingHost", "Stage", "make_device", "make_network", "make_scenario", "record"]
