"""A run as it goes on, or a record again: the state of every node from the events so far, drawn by a process of its
own.

activity     Where the last minute went: sums over bins of emulated time; messages that are under way
app          The live dashboard: a process of its own that reads the ledger's files and draws
clients      The dashboard's view of the clients: a row each, or their groups and the slowest; the server
follow       Where the events come from that a view shows: a run's files while they grow, or a record by its due times
glyphs       Small drawings in a line of text: bars, sparklines, strips of time; and columns
launch       How a run shows itself while it goes on: by a dashboard's process, or by plain lines
node_state   A node, a group of clients and a capacity of the network, as the events read so far show them
plain_lines  A run as lines of text: each round and each algorithm's outcome, for output that is no terminal
progress     What a run is doing now, folded from the ledger event by event: the state that the dashboard draws
screen       What the dashboard shows: a pure function of a run's state
terminal     A terminal that is drawn on and read keys from, and left as it was found
"""
