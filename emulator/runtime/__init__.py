"""The processes of a run: launched, supervised, ended; what each child does; the manifest that says what was played.

attempts      A dilation that the host shows to be too small: an attempt is abandoned, and the next one slowed
evaluator     The evaluator: loss and metrics of each round's joined model, from snapshot files, off the clock
fork_server   The process of which all others are copies: it has loaded torch, the emulator and the methods once
launch_spec   What a child process is told when it starts, and the exit statuses by which it answers
launcher      Plays a run: prepares its data, finds out its costs, starts the processes of a timeline
methods       What a method is, and one loaded by its module's name and checked
postmortem    What a signal ended: where the process was, and whether its memory had run out
preloaded     Last module that the fork server imports
run_manifest  The manifest of a run that is about to be played: scenario, settings, this host and its versions
subcommand    Runs one of our own commands inside another: it is told of every signal, and its end is waited for
supervision   Watches the processes of a timeline and reaps them all, whatever happens
targets       The functions that child processes run: light to import, since torch is preloaded in the children
watchdog      Every child's first call: it ends with the supervisor, and shows that it is alive and what it is doing
worker        A node's process: limits, seeds, clock, the algorithm's coroutine, last words
"""
