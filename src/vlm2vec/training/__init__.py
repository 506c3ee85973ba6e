"""Contrastive training."""
