"""Spiking neurons as functions of tensors: state in, state out."""
