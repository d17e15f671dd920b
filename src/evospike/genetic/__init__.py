"""Room A: weights generated from neuron encodings and one gene-interaction matrix."""
