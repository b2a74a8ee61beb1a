"""A run as it goes on, or a record again: the state of every node from the events so far, drawn by a process of its
own.
"""
