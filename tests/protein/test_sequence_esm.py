"""Masked language models with ESM's vocabulary as teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fewstep.errors import FewstepError
from fewstep.protocol import Cond
from fewstep_protein.sequence_didi.alphabet import HIDDEN, encode
from fewstep_protein.sequence_didi.esm import BEGIN, END, MASK, PADDING, EsmNet, framed, read_esm

ESM = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def spelled(ids: torch.Tensor) -> list[str]:
    return [ESM[i] for i in ids.tolist()]


def test_a_sequence_is_framed_by_visible_ends_whatever_is_hidden() -> None:
    x = torch.tensor([[*encode("MK").tolist(), HIDDEN, *encode("C").tolist()], [HIDDEN, HIDDEN, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    ids, shown = framed(x, mask)
    assert spelled(ids[0]) == ["<cls>", "M", "K", "<mask>", "C", "<eos>"]
    assert spelled(ids[1]) == ["<cls>", "<mask>", "<mask>", "<eos>", "<pad>", "<pad>"]
    assert shown.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert [ESM[i] for i in (BEGIN, PADDING, END, MASK)] == ["<cls>", "<pad>", "<eos>", "<mask>"]


class Eager(nn.Module):
    """Wants to end every sequence at once, and likes W second best."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        logits = torch.zeros(*input_ids.shape, 33)
        logits[..., [BEGIN, PADDING, END, ESM.index("X"), MASK]] = 50.0
        logits[..., ESM.index("W")] = 5.0
        return type("Answer", (), {"logits": logits})()


def test_special_tokens_and_unknown_residues_are_never_answered() -> None:
    found = EsmNet(Eager())(torch.full((2, 7), HIDDEN), torch.ones(2), Cond())
    assert found.shape == (2, 7, 20)
    assert found.argmax(-1).eq(encode("W")).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip(
        "transformers", reason="teachers with ESM's vocabulary: pip install 'fewstep[pipelines]'"
    )
    config = transformers.EsmConfig(
        vocab_size=33, mask_token_id=MASK, pad_token_id=PADDING, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16, position_embedding_type="rotary", token_dropout=False,
    )  # fmt: skip
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("esm")
    transformers.EsmForMaskedLM(config).save_pretrained(place)
    return place


@pytest.mark.slow  # importing transformers takes seconds
def test_a_saved_model_answers_alike_with_and_without_padding(folder: Path) -> None:
    net = read_esm(folder)
    x = torch.tensor([[*encode("MKT").tolist(), HIDDEN, HIDDEN]])
    padded = torch.cat([x, torch.zeros(1, 3, dtype=torch.int64)], 1)
    with torch.no_grad():
        alone = net(x, torch.ones(1), Cond())
        beside = net(padded, torch.ones(1), Cond(mask=torch.arange(8)[None] < 5))
    torch.testing.assert_close(alone, beside[:, :5], atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.slow
def test_a_model_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install 'fewstep[pipelines]'")
    config = transformers.EsmConfig(
        vocab_size=30, mask_token_id=29, pad_token_id=1, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=1, intermediate_size=8,
    )  # fmt: skip
    transformers.EsmForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(FewstepError, match="30 tokens"):
        read_esm(tmp_path)


@pytest.mark.slow
def test_an_empty_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install 'fewstep[pipelines]'")
    with pytest.raises(FewstepError, match="cannot load"):
        read_esm(tmp_path)
