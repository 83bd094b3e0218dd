"""Scripts of widgets: joined to one module, each part once, no name declared twice."""

import re
from collections import Counter

import pytest

from openmodels.widgets import scripts

NAMES = sorted(
    path.stem
    for path in scripts.FOLDER.glob("*.js")
    if "export default" in path.read_text(encoding="utf-8")
)


def test_there_are_widgets_with_scripts():
    assert {"drawing_pad", "error_analysis", "office_desk", "sound_recorder"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_joined_script_is_a_whole_module(name):
    text = scripts.script(name)
    assert re.findall(r"^\s*import\b", text, re.M) == []
    assert re.findall(r"^export (\w+)", text, re.M) == ["default"]
    declared = re.findall(r"^(?:async )?(?:const|let|function|class) (\w+)", text, re.M)
    assert [name for name, count in Counter(declared).items() if count > 1] == []
    assert declared.count("element") == 1


def test_a_part_that_two_scripts_need_comes_first_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(scripts, "FOLDER", tmp_path)
    (tmp_path / "a.js").write_text("export const a = 1;\n")
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport const b = a;\n')
    source = (
        'import {\n  b,\n} from "./b.js";\nimport { a } from "./a.js";\nexport default a + b;\n'
    )
    (tmp_path / "main.js").write_text(source)
    text = scripts.script("main")
    assert text.split() == "const a = 1; const b = a; export default a + b;".split()
