"""Where both wings of the emulator meet: event types, the files that hold them, a run's folder
and manifest, a timeline in memory.

Every figure is derived from these events. A new type of event goes into ``events``, beside ``AnyEvent``.

census      What a run's data are: samples and classes of every client
criteria    What models are judged by: metrics with their directions and targets, and how views call them
events      The ledger: what happened, one frozen event a line, and nothing measured a second time for display
files       The ledger on disk: append-only writer, a reader that follows, the merged file
manifest    A run's manifest: everything that is needed to play it again, written and read
round_lag   How far off its due time the end of a round may be, on a clock that shows wall time
run_folder  A run's folder: claimed before anything starts, withdrawn where nothing was played
timeline    One algorithm's events in memory: by their type, by node, and how the timeline ended
"""
