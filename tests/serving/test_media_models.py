"""One string chooses the model that sees or hears; what does not fit is refused with sizes."""

import io
import os
from pathlib import Path

import ollama
import pytest
from test_connect import alone, ollama_like  # noqa: F401

from openmodels import loading, paths, sizing
from openmodels.harbour import scenes, sounds
from openmodels.serving import connect, media_models, model_sources

VL = paths.shipped_dir("mini-qwen-vl")


def png(scene) -> bytes:
    file = io.BytesIO()
    scene.image.save(file, "PNG")
    return file.getvalue()


def ask(client, model, question, data) -> str:
    message = {"role": "user", "content": question, "images": [data]}
    return client.chat(model, [message], options={"temperature": 0}).message.content


def hub_folder(root: Path, repo: str, source: Path) -> None:
    """Write a folder in the layout of the hub's cache."""
    snapshot = root / f"models--{repo.replace('/', '--')}" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for file in source.iterdir():
        (snapshot / file.name).symlink_to(file)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abc")


@pytest.mark.usefixtures("alone")
def test_by_default_the_miniatures_answer(monkeypatch, capsys):
    monkeypatch.delenv("OPENMODELS_MODEL", raising=False)
    client, name = media_models.connect_model("vision")
    assert name == "mini-qwen-vl"
    assert capsys.readouterr().out.startswith("mini-qwen-vl on the course's stand-in for Ollama at")
    assert ask(client, name, "How many flags are there?", png(scenes.scene("flags", 3))).isdigit()
    monkeypatch.setenv("OPENMODELS_MODEL", "mini-qwen")  # has no ears
    assert media_models.connect_model("audio")[1] == "mini-qwen-audio"
    assert "mini-qwen has no audio" in capsys.readouterr().out
    monkeypatch.setenv("OPENMODELS_MODEL", "mini-scout")
    assert media_models.connect_model("vision")[1] == "mini-scout"


@pytest.mark.usefixtures("alone")
def test_a_folder_and_a_snapshot_of_the_hub_are_served(tmp_path, monkeypatch, capsys):
    hub_folder(tmp_path / "hub", "lark/small-vl", VL)
    monkeypatch.setattr(model_sources.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        model_sources, "snapshot_download",
        lambda repo, local_files_only: next((tmp_path / "hub").glob("*/snapshots/*")),
    )  # fmt: skip
    picture = png(scenes.scene("flags", 5))
    client, shipped = media_models.connect_model("vision")
    right = ask(client, shipped, "How many flags are there?", picture)
    for string in ("hf:lark/small-vl", str(VL)):
        client, name = media_models.connect_model("vision", string)
        assert name.startswith("local/")
        assert "vision" in client.show(name).capabilities
        assert ask(client, name, "How many flags are there?", picture) == right
    assert "0.0076 B parameters, served as local/small-vl" in capsys.readouterr().out


@pytest.mark.usefixtures("alone")
def test_a_folder_with_sound_hears(tmp_path):
    folder = paths.shipped_dir("mini-qwen-audio")
    client, name = media_models.connect_model("audio", str(folder))
    assert "audio" in client.show(name).capabilities
    clip = next(c for c in sounds.clips() if c.task == "call")
    file = tmp_path / "call.wav"
    sounds.write_wav(file, clip.samples)
    default, shipped = media_models.connect_model("audio")
    heard = ask(client, name, clip.question, file.read_bytes())
    assert heard == ask(default, shipped, clip.question, file.read_bytes())


@pytest.mark.parametrize(
    ("string", "capability", "expected"),
    [
        ("mini-qwen-vl", "audio", "no model 'mini-qwen-vl' with audio.*mini-qwen-audio"),
        ("mini-owl", "vision", "no model 'mini-owl' with vision.*mini-qwen-vl, mini-scout"),
        ("hf:mini", "vision", "written hf:org/name"),
        ("http://127.0.0.1:8000/v1#x", "vision", "Ollama's interface"),
        (str(paths.shipped_dir("mini-qwen")), "vision", "config has no vision_config"),
        ("mini-qwen-vl", "smell", "no capability 'smell'; there are vision, audio"),
    ],
)
def test_a_name_that_cannot_be_served_is_refused_in_words(string, capability, expected):
    with pytest.raises(ValueError, match=expected):
        media_models.connect_model(capability, string)


@pytest.mark.parametrize(
    ("string", "capability", "sizes"),
    [
        ("hf:Qwen/Qwen2.5-VL-3B-Instruct", "vision", "3.8 B parameters as float16 need 8.8 GB"),
        ("hf:Qwen/Qwen2-Audio-7B-Instruct", "audio", "8.4 B parameters as float16 need 19.0 GB"),
        ("ollama:llama4:scout", "vision", "108.6 B parameters as q4_k_m need "),
        ("hf:google/gemma-4-12b-it", "vision", "12.0 B parameters as float16 need "),
    ],
)
def test_a_real_model_that_does_not_fit_is_refused_with_sizes(
    string, capability, sizes, monkeypatch
):
    monkeypatch.setattr(sizing, "available_memory", lambda: 8 * 10**9)
    with pytest.raises(loading.DoesNotFit, match=sizes) as refused:
        media_models.connect_model(capability, string)
    assert "8.0 GB is available" in str(refused.value)
    assert refused.value.needed_bytes > refused.value.available_bytes == 8 * 10**9


def test_a_real_model_that_fits_but_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sizing, "available_memory", lambda: 64 * 10**9)
    monkeypatch.setattr(model_sources.constants, "HF_HUB_CACHE", str(tmp_path))

    def missing(repo, local_files_only):
        assert local_files_only
        raise model_sources.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(model_sources, "snapshot_download", missing)
    with pytest.raises(loading.NotDownloaded, match="hf download Qwen/Qwen2.5-VL-3B-Instruct"):
        media_models.connect_model("vision", "hf:Qwen/Qwen2.5-VL-3B-Instruct")


@pytest.mark.usefixtures("alone")
def test_a_model_that_ollama_lacks_says_how_to_pull_it(monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda: 999 * 10**9)
    with pytest.raises(loading.NotDownloaded, match=r"ollama pull llama4:scout` \(about 67 GB\)"):
        media_models.connect_model("vision", "ollama:llama4:scout")


@pytest.mark.usefixtures("alone")
def test_an_ollama_elsewhere_has_memory_of_its_own(monkeypatch, ollama_like):  # noqa: F811
    monkeypatch.setattr(sizing, "available_memory", lambda: 10**9)
    monkeypatch.setattr(model_sources, "is_local", lambda address: False)
    monkeypatch.setenv("OLLAMA_HOST", ollama_like)
    with pytest.raises(loading.NotDownloaded, match="ollama pull llama4:scout"):
        media_models.connect_model("vision", "ollama:llama4:scout")


@pytest.mark.parametrize(
    ("address", "local"),
    [("http://127.0.0.1:11434", True), ("http://localhost:1", True), ("http://[::1]:11434", True),
     ("http://10.0.0.7:11434", False), ("https://gpu.example.org", False)],
)  # fmt: skip
def test_which_addresses_are_this_machine(address, local):
    assert model_sources.is_local(address) == local


@pytest.mark.usefixtures("alone")
def test_a_model_of_ollama_without_eyes_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="'mini-qwen' has no vision; its capabilities: completion"):
        media_models.connect_model("vision", "ollama:mini-qwen")
    client, name = media_models.connect_model("vision", "ollama:mini-scout")
    assert isinstance(client, ollama.Client)
    assert name == "mini-scout"


def test_the_environment_is_read_when_asked(monkeypatch):
    monkeypatch.setenv("OPENMODELS_MODEL", "hf:one")
    with pytest.raises(ValueError, match="'hf:one'"):
        media_models.connect_model("vision")
    assert os.environ["OPENMODELS_MODEL"] == "hf:one"
    assert connect.DEFAULT.startswith("http://")
