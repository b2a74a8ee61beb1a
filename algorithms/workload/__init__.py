"""What is trained: a task, a client's part of it, models and where they are cut, auxiliary heads, initial weights."""
