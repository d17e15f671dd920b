"""One file per verb of the command line; the only place where rooms meet."""
