"""What a method sees: a client's or the server's node with ``post``, ``recv``, ``compute``, ``report``, and the types
of messages. The only package of the emulator that a method imports, beside ``errors``.
"""

from emulator.node.node import ClientNode, Node, ServerNode
from emulator.transport.messages import Message, StateDict

__all__ = ["ClientNode", "Message", "Node", "ServerNode", "StateDict"]
