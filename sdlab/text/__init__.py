"""Prompts and chat templates, and the epistemic markers of a completion."""
