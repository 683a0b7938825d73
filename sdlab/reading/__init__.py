"""Completions and problems from files that others wrote, whatever their format. Nothing in them is executed."""
