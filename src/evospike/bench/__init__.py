"""How fast evospike is, beside the limit of the machine and beside its peers."""
