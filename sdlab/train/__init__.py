"""Training: losses, differentiable logits, teachers, and the loops of SFT, GRPO and SDPO."""
