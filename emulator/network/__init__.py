"""What carrying a message takes: links, cells, TCP, absences, jitter, fair sharing. Integer arithmetic, no clock, no
socket.

``Fabric`` is asked for the next event; ``topology`` says which capacities lie between two nodes.
"""
