"""The command line: thin wrappers around jobs."""
