from tests.restate.dags.conftest import Fleet, task


def test_smoke(fleet: Fleet) -> None:
    run = fleet.start({"nodes": [task("a", data={"name": "smoke a", "items": [1, 2, 3]}),
        task("b", "a", for_each={"$ref": "a.output.result.items"}, data={"name": "smoke b", "saw": {"$ref": "item"}}),
        {"id": "w", "type": "wait", "seconds": 0.3, "depends_on": ["a"]},
        task("c", "b", "w", data={"name": "smoke c", "saw": {"$ref": "b.output.1.result.saw"}})],
        "output": {"$ref": "c.output.result.saw"}})
    found = fleet.ended(run)
    print(found)
    assert found["status"] == "completed"
