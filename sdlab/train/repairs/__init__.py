"""Published repairs of self-distillation as hooks of one loop."""
