"""Batched minimisers behind the saliency methods: minimum cuts on grids, block labels and block transport."""
