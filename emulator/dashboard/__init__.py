"""A run as it goes on, or a record again: the state of every node from the events so far, drawn by a process of its
own.

activity     Activity of the last minute: sums over bins of emulated time; messages that are under way
app          The live dashboard: a process of its own that reads the ledger's files and draws
clients      The dashboard's view of the clients: a row each, or their groups and the slowest; the server
follow       Sources of the events that a view shows: a run's files while they grow, or a record by its due times
glyphs       Small drawings in a line of text: bars, sparklines, strips of time; and columns
launch       Display of a run while it goes on: by a dashboard's process, or by plain lines
node_state   A node, a group of clients and a capacity of the network, as the events read so far show them
plain_lines  A run as lines of text: each round and each algorithm's outcome, for output that is no terminal
progress     State of a run now, folded from the ledger event by event: what the dashboard draws
screen       Screen of the dashboard: a pure function of a run's state
terminal     A terminal that is drawn on and read keys from, and left as it was found
"""
