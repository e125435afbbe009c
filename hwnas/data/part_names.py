"""Which part of a data set a name means: `Training`, `seg_train`, `01-val`, `测试集`, ... Knows words only."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

PARTS = ("train", "val", "test")

# `eval` may be validation or test: what else is there decides, or the user. Images of `unlabelled` are to be answered,
# not learned from.
_WORDS: dict[str, tuple[str, ...]] = {
    "train": (
        "train", "training", "trn", "entraînement", "apprentissage", "entrenamiento", "treino", "treinamento",
        "addestramento", "træning", "trening", "trénink", "eğitim", "обучение", "обучающая", "тренировка",
        "тренировочная", "навчання", "εκπαίδευση", "训练", "訓練", "学習", "學習", "훈련", "학습", "تدريب",
    ),
    "val": (
        "val", "valid", "validation", "validate", "validating", "validación", "validação", "validierung", "validazione",
        "validering", "validatie", "walidacja", "validace", "doğrulama", "валидация", "валидационная", "验证", "驗證",
        "検証", "검증", "dev", "development",
    ),
    "test": (
        "test", "testing", "tests", "tst", "teste", "testes", "prueba", "pruebas", "prüfung", "testowanie", "тест",
        "тестовая", "тестирование", "测试", "測試", "テスト", "試験", "테스트", "시험", "اختبار", "holdout", "heldout",
    ),
    "eval": ("eval", "evaluation", "evaluate", "evaluating", "评估", "評価"),
    "unlabelled": (
        "unlabelled", "unlabeled", "unsupervised", "pred", "preds", "predict", "prediction", "predictions",
    ),
}  # fmt: skip
_FILLERS = (
    "set", "sets", "data", "dataset", "datasets", "daten", "datos", "dados", "données", "image", "images", "img",
    "imgs", "bilder", "imágenes", "pic", "pics", "picture", "pictures", "photo", "photos", "foto", "fotos", "split",
    "part", "fold", "folder", "dir", "directory", "files", "ds", "subset", "samples", "examples", "jpg", "jpeg",
    "png", "集", "数据", "數據", "データ",
)  # fmt: skip


def _plain(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


_FILLER = "|".join(sorted({_plain(f) for f in _FILLERS}, key=len, reverse=True))
_ROLE_OF = {_plain(word): role for role, words in _WORDS.items() for word in words}
# `trainset`, `testimages`, `trainingsdaten`, but not `trains`, which are a class
_COMPOUND = re.compile(
    rf"(?:{_FILLER})*?({'|'.join(sorted(_ROLE_OF, key=len, reverse=True))})(?:s?(?:{_FILLER}))*", re.UNICODE
)
_ONLY_FILLER = re.compile(rf"(?:{_FILLER})+")


@dataclass(frozen=True, slots=True)
class PartName:
    """What a name says about a part.

    Attributes:
        role: "train", "val", "test"; "eval", which may be either of the last two; "unlabelled".
        alone: the name says nothing else: `test_images`, not `test tube`.
    """

    role: str
    alone: bool


def part_of(name: str) -> PartName | None:
    """The part a folder's or array's name means; None if it means none, or several."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    roles: set[str] = set()
    alone = True
    for token in re.findall(r"[^\W\d_]+", _plain(spaced.replace("-", " "))):
        if found := _COMPOUND.fullmatch(token):
            roles.add(_ROLE_OF[found[1]])
        elif not _ONLY_FILLER.fullmatch(token):
            alone = False
    return PartName(roles.pop(), alone) if len(roles) == 1 else None


def says_nothing(name: str) -> bool:
    """Whether a name tells no more of what is in a folder than that it is data: `images`, `dataset 2`."""
    tokens = re.findall(r"[^\W\d_]+", _plain(name))
    return bool(tokens) and all(_ONLY_FILLER.fullmatch(token) for token in tokens)
