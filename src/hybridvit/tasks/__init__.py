"""What can be learnt from pictures: task.py is the protocol, every other file one task."""
