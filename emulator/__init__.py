"""splitbed's emulator: an edge of processes with throttled links, modelled compute and capped memory.

The map, from the ground up; a module imports only from those above it in this list.

errors      what can go wrong, and whose fault it is
ledger      event types, append-only writer, reader
profiles    networks, devices, scenarios: human units in, ns / bytes / bit/s out
link        rate, delay, jitter, FIFO: pure arithmetic, time in and time out
device      work over device speed: pure arithmetic
wire        messages <-> headers and buffers; the one byte counter
work        counts a computation's operations, FLOPs and bytes while it runs
memory      cap, baseline, peak
clock       the event loop in whose time algorithms live
port        a node's socket to the network: ownership on post, delivery in two steps
network     the network process: every byte between two nodes passes through it
node        what algorithms see: post, send, recv, compute, now, report, snapshot
rehearsal   one process plays a scenario without waiting: costs of computations, load of the host
worker      a child process: limits, clock, algorithm, last words
launcher    starts, watches and reaps processes
summary, health, tables, progress, dashboard   views: pure functions of the ledger

Rules that keep a run repeatable: integers inside (``_ns``, ``_bytes``, ``_bps``); one named random stream a purpose;
heap keys are (time, rank, sequence); never iterate a set; aggregate in client order; no module of an algorithm reads
the host's clock.
"""
