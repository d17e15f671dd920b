"""Structure learning: networks that are sparse from the first step, pruned and regrown while they learn."""
