"""Features: sampled frames, tokens and scaled dense values, and the store that training reads them from."""
