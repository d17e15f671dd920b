"""The cases: one module a subject, each with a tuple `CASES`. None of them imports torch before it measures."""
