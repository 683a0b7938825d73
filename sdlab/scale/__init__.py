"""The study at scale: TRL's trainers with the study's settings, launched by accelerate; one recipe per experiment."""
