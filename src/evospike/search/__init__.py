"""Architecture search: genomes, motifs, and the networks they describe."""
