"""A computation's cost: FLOPs, bytes and operations counted, then divided by a device's speed; memory, its cap and its
peak.
"""
