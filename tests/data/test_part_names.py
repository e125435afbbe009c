"""Names of parts in the spellings people use, and names that are none."""

from __future__ import annotations

import pytest

from hwnas.data.part_names import part_of, says_nothing

TRAIN = (
    "train", "Train", "TRAIN", "training", "Training", "Training set", "training_set", "TrainingSet", "train2017",
    "trainset",
    "01_train", "1. Training", "images_train", "train-images", "trainImages", "train_data", "Trainingsdaten",
    "seg_train",
    "train_dir", "train_ds", "asl_alphabet_train", "fruits-360_train", "entrenamiento", "Entraînement", "Treinamento",
    "addestramento", "обучение",
    "Тренировочная", "训练集", "訓練データ", "학습",
)  # fmt: skip
VALIDATION = (
    "val", "Val", "val2", "valid", "validation", "Validation_Set", "valset", "validacion", "Validación", "validação",
    "Validierung", "dev", "Dev set", "验证集", "検証", "chest_xray_val",
)  # fmt: skip
TEST = (
    "test", "Test", "TEST", "testing", "tests", "test_images", "images_test", "testset", "test1", "Test-Set",
    "TestData",
    "prueba", "Prüfung", "тест", "测试", "テスト", "holdout", "seg_test",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "role"),
    [*((n, "train") for n in TRAIN), *((n, "val") for n in VALIDATION), *((n, "test") for n in TEST)]
    + [(n, "eval") for n in ("eval", "Evaluation", "eval_set")]
    + [(n, "unlabelled") for n in ("unlabeled", "Unlabelled images", "seg_pred", "predictions")],
)
def test_a_part_is_recognised_in_any_usual_spelling(name: str, role: str) -> None:
    found = part_of(name)
    assert found is not None
    assert found.role == role


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cat",
            "invalid",
            "trains",
            "strain",
            "contest",
            "value",
            "valley",
            "latest",
            "detest",
            "device",
            "devil",
            "",
        ),
        *("images", "train_test", "trainval", "set", "2019", "__", "evaluator", "Größe 日本"),
    ],
)
def test_other_names_mean_no_part(name: str) -> None:
    assert part_of(name) is None


@pytest.mark.parametrize(
    ("name", "alone"), [("train", True), ("01_train_images", True), ("bullet train", False), ("test tube", False)]
)
def test_a_name_that_says_more_is_told_from_one_that_does_not(name: str, *, alone: bool) -> None:
    found = part_of(name)
    assert found is not None
    assert found.alone is alone


@pytest.mark.parametrize(
    ("name", "nothing"), [("images", True), ("JPG files 2", True), ("cat images", False), ("", False)]
)
def test_a_name_that_says_nothing_but_data_is_known(name: str, *, nothing: bool) -> None:
    assert says_nothing(name) is nothing
