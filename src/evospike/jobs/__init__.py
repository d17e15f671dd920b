"""What the commands do: the place where rooms are composed.

Recipes and folders    recipe, settings, arms, folder, records, results
Conducting a run       conduct, plan, workshop, progress, memory, pool, workers, worker_file, nodes, shared_task
Candidates             candidates, scoring, brief, spaces, searching, ranking, agreement, genomes, architecture
Final trainings        finals, final, attempt
After a run            load, inference, evaluation, evaluation_document, evaluation_text, replay, export_study
Looking on             inspection, watch, run_state, following, tensorboard
"""
