"""Models: from items to vectors."""
