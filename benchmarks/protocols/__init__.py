"""Test sets and scorers, a task a file; claims and cards both use them."""
