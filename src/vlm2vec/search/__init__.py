"""Search your own files: scan a folder, keep its vectors in a table, answer queries from it."""
