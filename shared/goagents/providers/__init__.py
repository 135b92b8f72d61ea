"""Model providers: one adapter each, over the vendor's own SDK, loaded on first use."""
