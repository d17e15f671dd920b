"""The command line's job from Python: train a small genetic network on the digits, load it, predict."""

import tempfile

import evospike
from evospike.cli.main import main
from evospike.data.settings import DataSettings
from evospike.data.task import load_task

with tempfile.TemporaryDirectory() as folder:
    main(["train", "digits", "-o", f"{folder}/run", "--arms", "genetic", "--seeds", "1", "--epochs", "3", "--quiet"])
    net = evospike.load(f"{folder}/run")

test = load_task(DataSettings(source="digits"), seed=0).open_test()
images, labels = test.take(test.rows.new_tensor(range(10)))
print("predicted:", net.predict(images).tolist())
print("labels:   ", labels.tolist())
