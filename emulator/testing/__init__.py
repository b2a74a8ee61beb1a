"""For authors of methods: a small scenario played in one process, a method on it, everything that it did at hand.

``record(module, config)`` plays a method to its end; ``Stage`` lets a test write the coroutines of its nodes itself.
"""

from emulator.testing.recording import Recording, RecordingHost, record
from emulator.testing.stage import Stage, make_device, make_network, make_scenario

__all__ = ["Recording", "RecordingHost", "Stage", "make_device", "make_network", "make_scenario", "record"]
