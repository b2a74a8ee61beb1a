"""Where both wings of the emulator meet: event types, the files that hold them, a run's folder, a timeline in memory.

Every figure is derived from these events. A new type of event goes into ``events``.
"""
