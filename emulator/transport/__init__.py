"""Messages between processes: headers and buffers, a node's endpoint, the control channel, and the router process
through which every byte passes.

control_channel  Control channels for promises and grants: one Unix socket between each node and the network process
delivery         Events of messages on their way, as the network records them
endpoint         A node's socket to the network process, and the protocol between them
messages         Messages and what they weigh: a typed struct <-> a msgpack header and raw tensor bytes
router           The network process: every byte between two nodes passes through it
"""
