"""The notebooks: run, recorded, checked and rendered as a report."""
