from __future__ import annotations

from evospike.data.known import KNOWN, cached_size, seen_size


def test_each_set_has_its_own_constants() -> None:
    assert KNOWN["cifar10"].mean == (0.4914, 0.4822, 0.4465)
    assert KNOWN["cifar10"].std == (0.2023, 0.1994, 0.2010)
    assert KNOWN["cifar100"].mean == (0.5071, 0.4867, 0.4408)
    assert KNOWN["cifar100"].std == (0.2675, 0.2565, 0.2761)
    assert KNOWN["imagenet"].mean == (0.485, 0.456, 0.406)
    assert KNOWN["imagenet"].std == (0.229, 0.224, 0.225)


def test_imagenet_keeps_a_margin_for_the_centre_crop() -> None:
    assert cached_size("imagenet", 0) == 256
    assert cached_size("imagenet", 112) == 128
    assert seen_size("imagenet", 0, (256, 256)) == (224, 224)
    assert cached_size("cifar10", 0) == 0
    assert seen_size("cifar10", 0, (32, 32)) == (32, 32)
