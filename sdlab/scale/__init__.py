"""Train real models with TRL's trainers and the settings of the study, started by accelerate.

There is one recipe per experiment of the paper.
"""
