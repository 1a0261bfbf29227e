"""The README's Python runs, and its example does what it says."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_readme_code(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 4
    namespace = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["result"].best_value < 0.1 and namespace["result"].num_queries == 400
    value, queries = re.match(r"([\d.]+) after (\d+) queries", capsys.readouterr().out).groups()
    assert float(value) <= 0.05
    assert int(queries) == 200 * 16
