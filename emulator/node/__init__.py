"""What a method sees: a client's or the server's node with ``post``, ``recv``, ``compute``, ``report``, and the types
of messages. The only package of the emulator that a method imports, beside ``errors``.

inbox         A node's inbox: messages that nobody waited for, and tasks that wait for one
memory_watch  Looks at a node's memory after whatever may have raised its peak
node          The node, as an algorithm sees it: post, send, recv, compute, now, report, snapshot
outbox        A node's send queue: a copy of each message that has not left yet, and the tasks that wait for room in it
playing       A node's part in a timeline: its method's coroutine, and what that has posted, until all has left
queueing      For which message the server computes, and how long that message queued
"""

from emulator.node.node import ClientNode, Node, ServerNode
from emulator.transport.messages import Message, StateDict

__all__ = ["ClientNode", "Message", "Node", "ServerNode", "StateDict"]
