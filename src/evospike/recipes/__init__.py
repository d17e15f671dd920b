"""The shipped experiments, one TOML file each."""
