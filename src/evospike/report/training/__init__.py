"""The page of evolve and train: history of the evolution, trainings, structure."""
