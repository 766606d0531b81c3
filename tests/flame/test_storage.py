"""The storage client: results, intermediate data, encryption, tags; examples and edges."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.flame.conftest import Federation
from tests.flame.test_broker import BOTH


def _result(federation: Federation, data_node: str, aggregator: str, **options: Any) -> Any:
    bed = federation("node-a", "node-b", "node-c")
    scripts = dict.fromkeys(("node-a", "node-b"), BOTH + data_node)
    run = bed.run(BOTH + aggregator, scripts=scripts, **options)
    assert run.succeeded, (run.result, run.printed)
    return json.loads(run.texts[0])


def _alone(federation: Federation, script: str, **options: Any) -> Any:
    run = federation("node-c").run(BOTH + script, **options)
    assert run.succeeded, (run.result, run.printed)
    return run


def test_final_results_of_each_type(federation: Federation) -> None:
    """The document's example as text; bytes and a pickle as files that the line names."""
    script = """
aggregated_res = {'mean': 2.5}
answer = flame.submit_final_result(result=aggregated_res, output_type='str')
flame.submit_final_result('text')
flame.submit_final_result(b'\\x00\\xff', output_type='bytes')
flame.submit_final_result({'a': (1, 2)}, 'pickle')
class Model:
    weights = 3
flame.submit_final_result(answer['status'])
"""
    run = _alone(federation, script)
    assert run.texts == ["{'mean': 2.5}", "text", "success"]
    binary, pickled = run.submissions[2:4]
    assert (run.out / binary["file"]).read_bytes() == b"\x00\xff"
    assert pickle.loads((run.out / pickled["file"]).read_bytes()) == {"a": (1, 2)}
    assert [s["output_type"] for s in run.submissions] == ["str", "str", "bytes", "pickle", "str"]
    assert all(set(s) >= {"node", "output_type", "text"} for s in run.submissions)
    assert binary["file"].startswith("results/")


def test_refused_results(federation: Federation) -> None:
    data_node = """
flame.send_message([aggregator], 'r', {'r': refusal(flame.submit_final_result, 'x')})
"""
    aggregator = """
submit([
    flame.await_messages(others, 'r')['node-a'][0].body['r'],
    refusal(flame.submit_final_result, 'x', 'json'),
    refusal(flame.submit_final_result, 'x', 'bytes'),
    refusal(flame.submit_final_result, lambda: 0, 'pickle'),
    refusal(flame.submit_final_result, 'x', local_dp={'epsilon': 1.0, 'sensitivity': 1.0}),
    refusal(flame.submit_final_result, 1.0, local_dp={'epsilon': 1.0}),
    refusal(flame.submit_final_result, 1.0, local_dp={'epsilon': 0, 'sensitivity': 1.0}),
    refusal(flame.submit_final_result, b'1', 'bytes', {'epsilon': 1.0, 'sensitivity': 1.0}),
])
"""
    refusals = _result(federation, data_node, aggregator)
    assert [r[0] for r in refusals] == [
        "NotTheAggregator",
        "InvalidArgument",
        "InvalidArgument",
        "InvalidArgument",
        "CannotAddNoise",
        "InvalidArgument",
        "CannotAddNoise",
        "InvalidArgument",
    ]
    assert "get_role()" in refusals[0][1]


def test_local_dp_adds_noise_and_is_charged(federation: Federation) -> None:
    """Noise of scale sensitivity/epsilon, until the budget is spent."""
    script = """
noise = {'epsilon': 0.5, 'sensitivity': 1.0}
for _ in range(4):
    flame.submit_final_result(1000, local_dp=noise)
flame.submit_final_result(refusal(flame.submit_final_result, 1000, local_dp=noise)[0])
"""
    run = _alone(federation, script, epsilon_budget=2.0)
    assert run.texts[-1] == "BudgetSpent"
    numbers = [float(text) for text in run.texts[:-1]]
    assert len(numbers) == 4
    assert len(set(numbers)) == 4
    assert all(0 < abs(number - 1000) < 100 for number in numbers)  # P(more) < 1e-20


def test_global_data_is_for_every_node(federation: Federation) -> None:
    """The document's examples of save and get; any node of the analysis reads it."""
    data_node = """
id = flame.await_messages([aggregator], 'id')[aggregator][0].body['id']
read = flame.get_intermediate_data(location='global', id=id)
flame.send_message([aggregator], 'read', {'read': read})
"""
    aggregator = """
aggregated_res = {'coef': [1.5, None], 'n': 3}
saved = flame.save_intermediate_data(location="global", data=aggregated_res)
flame.send_message(others, 'id', {'id': saved['id']})
read = flame.await_messages(others, 'read')
submit([sorted(saved), saved['status'], [read[n][0].body['read'] for n in others],
        flame.get_intermediate_data('global', saved['id'])])
"""
    value = {"coef": [1.5, None], "n": 3}
    assert _result(federation, data_node, aggregator) == [
        ["id", "status", "url"],
        "success",
        [value, value],
        value,
    ]


def test_local_data_is_for_its_node_alone(federation: Federation) -> None:
    data_node = """
saved = flame.save_intermediate_data([me], 'local')
assert flame.get_intermediate_data('local', saved['id']) == [me]
flame.send_message([aggregator], 'id', {'id': saved['id']})
flame.await_messages([aggregator], 'end')
"""
    aggregator = """
ids = [flame.await_messages([n], 'id')[n][0].body['id'] for n in others]
submit([refusal(flame.get_intermediate_data, place, id)[0]
        for id in ids for place in ('local', 'global')])
"""
    assert _result(federation, data_node, aggregator) == ["UnknownObject"] * 4


def test_encrypted_data_opens_for_its_receiver_only(federation: Federation) -> None:
    """remote_node_ids and sender_node_id; a wrong reader gets an error, never data."""
    data_node = """
ids = flame.await_messages([aggregator], 'ids')[aggregator][0].body['ids']
other = 'node-b' if me == 'node-a' else 'node-a'
read = flame.get_intermediate_data('global', ids[me], sender_node_id=aggregator)
flame.send_message([aggregator], 'read', {'read': [
    read.upper(),
    refusal(flame.get_intermediate_data, 'global', ids[other], sender_node_id=aggregator)[0],
    refusal(flame.get_intermediate_data, 'global', ids[me])[0],
    refusal(flame.get_intermediate_data, 'global', ids[me], sender_node_id=other)[0],
    refusal(flame.get_intermediate_data, 'global', ids[other].split('-')[0])[0],
]})
"""
    aggregator = """
saved = flame.save_intermediate_data('secret-text', 'global', remote_node_ids=others)
flame.send_message(others, 'ids', {'ids': {n: saved[n]['id'] for n in others}})
read = flame.await_messages(others, 'read')
submit([sorted(saved), sorted(saved['node-a']), [read[n][0].body['read'] for n in others]])
"""
    bed = federation("node-a", "node-b", "node-c")
    run = bed.run(BOTH + aggregator, scripts=dict.fromkeys(("node-a", "node-b"), BOTH + data_node))
    refused = ["UnknownObject", "InvalidArgument", "FlameError", "UnknownObject"]
    assert json.loads(run.texts[0]) == [
        ["node-a", "node-b"],
        ["id", "status", "url"],
        [["SECRET-TEXT", *refused]] * 2,
    ]
    stored = [p.read_bytes() for p in (run.out / "hub").rglob("*") if p.is_file()]
    assert len(stored) >= 4
    assert not any(b"secret-text" in content for content in stored)


@pytest.mark.parametrize("encrypted", [True, False])
def test_sending_and_awaiting_intermediate_data(federation: Federation, encrypted: bool) -> None:
    """The document's examples; on the hub it is encrypted unless that is declined."""
    data_node = f"""
import numpy as np
successful, failed = flame.send_intermediate_data(
    [aggregator, 'node-b' if me == 'node-a' else 'node-a'],
    {{'x': np.arange(3.0), 'from': me, 'mark': 'plain-text'}}, encrypted={encrypted})
assert sorted(successful + [me]) == ['node-a', 'node-b', 'node-c'] and failed == []
partner = flame.await_intermediate_data(['node-b' if me == 'node-a' else 'node-a'])
flame.send_message([aggregator], 'partner', {{'sum': [d['x'].sum() for d in partner.values()][0]}})
"""
    aggregator = """
data = flame.await_intermediate_data(["node-a", "node-b"], timeout=60)
partner = flame.await_messages(others, 'partner')
submit([sorted(data), [list(d['x']) for d in data.values()], [d['from'] for d in data.values()],
        [partner[n][0].body['sum'] for n in others]])
"""
    bed = federation("node-a", "node-b", "node-c")
    run = bed.run(BOTH + aggregator, scripts=dict.fromkeys(("node-a", "node-b"), BOTH + data_node))
    assert run.succeeded, run.printed
    assert json.loads(run.texts[0]) == [
        ["node-a", "node-b"],
        [[0.0, 1.0, 2.0]] * 2,
        ["node-a", "node-b"],
        [3.0, 3.0],
    ]
    stored = b"".join(p.read_bytes() for p in (run.out / "hub").rglob("*") if p.is_file())
    assert (b"plain-text" in stored) is not encrypted


def test_data_of_a_category_and_of_a_node_that_is_gone(federation: Federation) -> None:
    data_node = """
if me == 'node-a':
    flame.send_intermediate_data([aggregator], 1, message_category='round-1')
    flame.send_intermediate_data([aggregator], 2, message_category='round-2')
"""
    aggregator = """
two = flame.await_intermediate_data(others, message_category='round-2')
one = flame.await_intermediate_data(['node-a'], 'round-1', 5)
late = flame.await_intermediate_data(['node-a'], timeout=1)
sent = flame.send_intermediate_data(others, 'x', timeout=5)
submit([two, one, late, sent])
"""
    assert _result(federation, data_node, aggregator) == [
        {"node-a": 2, "node-b": None},
        {"node-a": 1},
        {"node-a": None},
        [[], ["node-a", "node-b"]],
    ]


def test_tags_persist_for_the_project_and_the_node(federation: Federation) -> None:
    """First, last, all, get_local_tags with a filter; another project and node see nothing."""
    bed = federation("node-a", "node-c")
    saves = (
        BOTH
        + """
if me == 'node-c':
    for number in (1, 2, 3):
        flame.save_intermediate_data({'n': number}, 'local', tag='result-2024')
    flame.save_intermediate_data('x', location='local', tag='model')
    submit(1)
"""
    )
    assert bed.run(saves, project="p-1").succeeded
    reads = (
        BOTH
        + """
def read():
    return [flame.get_local_tags(), flame.get_local_tags(filter='result'),
            flame.get_intermediate_data('local', tag='result-2024'),
            refusal(flame.get_intermediate_data, 'local', tag='model', tag_option='last')]
if me == 'node-a':
    flame.send_message([aggregator], 'read', {'read': read()})
else:
    read_here = read()
    options = [flame.get_intermediate_data('local', tag='result-2024', tag_option=o)
               for o in ('first', 'last', 'all')] if read_here[0] else None
    submit([read_here, options, flame.await_messages(others, 'read')['node-a'][0].body['read']])
"""
    )
    own, options, other_node = json.loads(bed.run(reads, project="p-1").texts[0])
    one, two, three = ({"n": n} for n in (1, 2, 3))
    assert own == [["model", "result-2024"], ["result-2024"], [one, two, three], None]
    assert options == [one, three, [one, two, three]]
    assert other_node[:3] == [[], [], []]
    assert other_node[3][0] == "UnknownTag"
    other_project, _, _ = json.loads(bed.run(reads, project="p-2").texts[0])
    assert other_project[:3] == [[], [], []]
    assert other_project[3][0] == "UnknownTag"


@pytest.mark.parametrize(
    "tag", ["", "Upper", "a_b", "-a", "a-", "a--b", "a b", "ä", "x" * 33, "../a", "a\n"]
)
def test_impossible_tags(tag: str) -> None:
    from federated_analytics.flame.local_storage import check_tag

    with pytest.raises(ValueError, match="tag"):
        check_tag(tag)


def test_refused_storage_arguments(federation: Federation) -> None:
    script = """
id = flame.save_intermediate_data(1, 'global')['id']
submit([
    refusal(flame.save_intermediate_data, 1, 'hub'),
    refusal(flame.save_intermediate_data, 1, 'global', tag='x'),
    refusal(flame.save_intermediate_data, 1, 'local', remote_node_ids=['node-c']),
    refusal(flame.save_intermediate_data, 1, 'local', tag='Not-A-Tag'),
    refusal(flame.save_intermediate_data, 1, 'global', remote_node_ids=['node-x']),
    refusal(flame.save_intermediate_data, object(), 'local'),
    refusal(flame.get_intermediate_data, 'local'),
    refusal(flame.get_intermediate_data, 'local', id, 'tag'),
    refusal(flame.get_intermediate_data, 'global', tag='tag'),
    refusal(flame.get_intermediate_data, 'local', tag='Not-A-Tag'),
    refusal(flame.get_intermediate_data, 'local', tag='a', tag_option='newest'),
    refusal(flame.get_intermediate_data, 'global', id, sender_node_id='node-c'),
    refusal(flame.get_intermediate_data, 'global', '0' * 32),
    refusal(flame.get_intermediate_data, 'global', '../node.sqlite'),
])
"""
    refusals = json.loads(_alone(federation, script).texts[0])
    assert [r[0] for r in refusals] == [
        *["InvalidArgument"] * 3,
        "InvalidTag",
        "UnknownNode",
        "UnsendableValue",
        *["InvalidArgument"] * 3,
        "InvalidTag",
        "InvalidArgument",
        "InvalidArgument",
        "UnknownObject",
        "UnknownObject",
    ]
    assert refusals[3][2]  # a ValueError


def test_objects_of_many_kinds_return_as_they_were(federation: Federation) -> None:
    script = """
import numpy as np, pandas as pd
frame = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})
values = [b'\\x00', 'text', {'x': [1, None]}, np.eye(2), frame]
back = [flame.get_intermediate_data(place, flame.save_intermediate_data(v, place)['id'])
        for place in ('local', 'global') for v in values]
same = [type(b) is type(v) and (b.equals(v) if v is frame else
        (b == v).all() if isinstance(v, np.ndarray) else b == v)
        for b, v in zip(back, values * 2)]
submit([bool(s) for s in same])
"""
    assert json.loads(_alone(federation, script).texts[0]) == [True] * 10


def test_a_large_object_crosses_in_pieces(federation: Federation) -> None:
    """50 MB, encrypted, there and back; the node never holds it in memory."""
    data_node = "flame.send_intermediate_data([aggregator], b'0123456789' * 5_000_000)"
    aggregator = """
import hashlib
data = flame.await_intermediate_data(['node-a'])['node-a']
submit([len(data), hashlib.sha256(data).hexdigest()])
"""
    bed = federation("node-a", "node-c")
    run = bed.run(BOTH + aggregator, scripts={"node-a": BOTH + data_node})
    import hashlib

    expected = hashlib.sha256(b"0123456789" * 5_000_000).hexdigest()
    assert json.loads(run.texts[0]) == [50_000_000, expected]


def test_data_sources_by_the_node_s_folder(federation: Federation) -> None:
    """get_data_sources, get_s3_data, get_data_client, get_fhir_data where there is none."""
    script = """
import asyncio
sources = flame.get_data_sources()
async def fetched():
    async with flame.get_data_client(data_id=sources[0]['id']) as client:
        response = await client.get('x.csv')
        missing = await client.get('missing.csv')
        return [response.status_code, response.text, missing.status_code]
submit([[sorted(s) for s in sources], flame.get_s3_data(), flame.get_s3_data(['x.csv']),
        flame.get_s3_data([]), flame.get_fhir_data(), flame.get_fhir_data([]),
        asyncio.run(fetched()), refusal(flame.get_data_client, 'unknown'),
        refusal(flame.get_s3_data, ['../x.csv'])[0]])
"""
    data: dict[str, Any] = {"node-c": {"x.csv": "1\n2\n", "y.txt": "ü"}}
    run = _alone(federation, script, data=data)
    sources, all_keys, one, empty, fhir, no_query, fetched, unknown, outside = json.loads(
        run.texts[0]
    )
    assert sources == [["id", "name", "type"]]
    assert all_keys == empty == [{"x.csv": "1\n2\n", "y.txt": "ü"}]
    assert one == [{"x.csv": "1\n2\n"}]
    assert fhir is None
    assert no_query is None
    assert fetched == [200, "1\n2\n", 404]
    assert unknown[0] == "UnknownDataSource"
    assert unknown[2]
    assert outside in ("InvalidKey", "FlameError")
    assert ("error", unknown[1]) in run.logged("node-c")


def test_a_node_without_data_has_no_source(federation: Federation) -> None:
    script = "submit([flame.get_data_sources(), flame.get_s3_data(), flame.get_fhir_data(['x'])])"
    assert json.loads(_alone(federation, script).texts[0]) == [[], [], []]


def test_a_former_run_s_files_are_replaced(federation: Federation, tmp_path: Path) -> None:
    from federated_analytics.flame.run_folder import RunFolder

    (tmp_path / "kept.txt").write_text("mine")
    first = RunFolder(tmp_path)
    first.add_log("node-a", "info", "old")
    first.write_status("finished", {})
    RunFolder(tmp_path)
    assert (tmp_path / "hub_log.jsonl").read_text() == ""
    assert (tmp_path / "kept.txt").read_text() == "mine"
