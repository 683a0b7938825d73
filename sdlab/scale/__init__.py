"""The study at scale: TRL's trainers with the settings of the study, started by accelerate.

There is one recipe per experiment.
"""
