"""Ask, evaluate, record, tell: evolution over a store that can be resumed."""
