"""splitbed's emulator: an edge of processes with throttled links, modelled compute and capped memory.

The map, from the ground up; a module imports only from those above it in this list.

errors            what can go wrong, and whose fault it is
values            what is wrong with a value that a user gives, and what would be right
scratch           what a run takes of the host before it begins: a folder, open files
flags             a command line's, whose mistakes are told like any other
steps             a quantity that changes in steps, and starts over
ledger            event types, append-only writer, reader
text_files, text_tables, toml_files   what a user brings, in whatever encoding; the one reader of TOML
profiles          networks, devices, scenarios in ns, bytes, bit/s
profile_files     the format of profile files
trace_rows, mahimahi, trace_periods, traces   bandwidth traces in four formats
trace_statistics, trace_convert   how a trace spreads over a lap; logs made into traces
absence_files, client_tables, network_reading, profile_reading   scenarios, read from files in human units
trace_maker       traces made up from published figures
profile_maker     a profile of this machine
link, sharing, tcp   jitter; flows that share capacities max-min fairly; what TCP adds
absences, topology   when a client cannot be reached; which capacities lie between two nodes
connection, fabric   messages in; when each begins to leave, has left and arrives
device            work over device speed: pure arithmetic
cgroups           cores and memory that the host lets a run have
dilation          how many times slower the real clock must run for the host to keep up
memory            cap, baseline, peak
finite            whether tensors hold numbers alone
wire              messages <-> headers and buffers; the one byte counter
formulas          FLOPs of torch's operators on the CPU
operators         what an operator of torch costs: FLOPs by a formula, or bytes
imagined          a CPU without values, to count on
work              counts a computation's operations, FLOPs and bytes; the thread that runs it
liveness          signs of life; what a process has been doing for long
clock             the event loop in whose time algorithms live
coordinator       the clocks: which of all events may take place next
lines, port       a node's socket to the network: ownership on post, delivery in two steps
network           the network process: every byte between two nodes passes through it
inbox             messages that wait for a task, tasks that wait for a message
queueing          for which message the server computes, and how long that message queued
tensor_account    bytes of tensors alive, by the node that made them and by what they are for
outbox            messages that have not left yet, tasks that wait for room
node              what algorithms see: post, send, recv, compute, now, report, snapshot
inline            a fabric in an event loop that all nodes share
uncharged         a method's tensor work outside a computation, which costs nothing
rehearsal         one process plays a scenario without waiting: costs of computations, load of the host
memory_account    the same with an account of every tensor: what a client's memory is made of
dryrun            the same with all clients, each distinct computation carried out once: bytes and seconds foreseen
foresight         how long a run will take on the wall
arithmetic        how this CPU's kernels are chosen
preload, preloaded, child   what a child process is told, and what makes it end with the supervisor
postmortem        what a signal ended: where it was, whether its memory had run out
evaluator, worker child processes: test accuracy off the clock; limits, clock, algorithm, last words
hostload          the load of the host
supervision, launcher   watches and reaps processes; starts them
subcommand        runs one of our own commands inside another
sheets, memory_sheets, conservation, send_queues, omissions   views: pure functions of the ledger
computations      what each costs
divergence        from which round on a training has no accuracy, and with whom that began
round_limits      rounds and time that each method may play
digest, health    two short names for a run; its verdict on itself
client_memory     what a client needed, measured or foreseen, and whether it fits
latency           what a client's time goes into
communication     what messages weigh: by way, by kind, until each round's end
summary           the run in one dictionary
clients_data      of it: what was read, and what each client has of it
figures, communication_sheets, findings, tables   of it: single numbers to compare; a sentence; text
estimates, bench_tables   several runs: mean, deviation, interval; as text
activity, seen, progress   what a run is doing: bins of its last minute; nodes and capacities; the whole
following         the events for it: of a run that goes on, or of a record by its due times
glyphs, client_view, screen   the dashboard's lines: pure functions of that state
plain_lines, terminal, dashboard, display   who writes them, and where: a process of its own that a run starts
verify, profile_views, trace_views   more views
sources           which of our own files a module depends on, by what each does
record            a run's folder: manifest, merged ledger, summary, tables
plot_data         what the plots show, as numbers
plot_style, charts, gantt, plots   colours and frame; figures as plots; a round as strips over time; all as files
perfetto_trace    the run for trace viewers
report, compare   the page of a run; runs side by side

Rules that keep a run repeatable: integers inside (``_ns``, ``_bytes``, ``_bps``); one named random stream a purpose;
heap keys are (time, rank, sequence); never iterate a set; aggregate in client order; no module of an algorithm reads
the host's clock.
"""
