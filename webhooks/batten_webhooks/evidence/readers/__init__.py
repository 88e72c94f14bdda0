"""Evidence as scanners write it, one format a file. Total: whatever the bytes, a Document or
Unreadable, in bounded time and memory.
"""
