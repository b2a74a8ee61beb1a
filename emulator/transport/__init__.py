"""Messages between processes: headers and buffers, a node's endpoint, the control channel, and the router process
through which every byte passes.
"""
