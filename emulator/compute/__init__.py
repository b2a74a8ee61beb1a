"""A computation's cost: FLOPs, bytes and operations counted, then divided by a device's speed; memory, its cap and its
peak.

A computation's time: ``counting`` counts its work, ``device.duration_ns`` divides it. A client's memory peak is taken
by ``memory.MemoryCap.growth_bytes``.

counting        Counted work of a computation, taken while it runs, and the thread that runs it
device          Devices as arithmetic: how long a counted amount of work takes
finite          Whether tensors hold numbers alone
formulas        FLOPs of torch's operators on the CPU, by formulas of their shapes
imagined        A CPU without values: what is dispatched there, and so what is counted, is what a run dispatches
memory          A client's memory: baseline, cap, peak growth
operators       Work of an operator of torch: FLOPs by a formula, or the bytes of its operands
tensor_account  Bytes of live tensors, by the node that made them and by what they are for
uncharged       Tensor work of a method outside ``node.compute``, which takes no emulated time
"""
