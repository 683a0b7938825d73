"""Is an answer right? Compared with the truth by structure and exact algebra."""
