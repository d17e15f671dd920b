"""What every room needs: errors, named random streams, atomic files, settings."""
