"""Transfer times of messages: links, cells, TCP, absences, jitter, fair sharing. Integer arithmetic, no clock, no
socket.

Where a link's rate is applied to a message: ``fairness.fill`` sets each flow's rate, ``Fabric._share_among`` makes of
it when the last bit leaves, ``Fabric._arrive`` when the message arrives.

connection  Connections between two nodes: the queue and path of each direction, and the state of TCP that both share
fabric      The network as arithmetic: messages in, and when each begins to leave, has left and arrives; no clock
fairness    Max-min fair sharing of capacities by flows: progressive filling, in integers
jitter      The times of a message's transmission, and the jitter of a link: integer nanoseconds, bytes and bit/s
tcp         TCP as arithmetic on a link: set-up, slow start, restart after idle, a rate limited by loss
topology    The paths between the nodes of a scenario: the capacities that a flow crosses, their delay
"""
