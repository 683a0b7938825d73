"""The organism: its tokenizer, its training texts, its pretraining and its card."""
