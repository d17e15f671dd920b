"""What `evospike evaluate` measured, as a page shows it."""
