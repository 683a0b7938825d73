"""Run the notebooks, record and check their results, and render them as a report."""
