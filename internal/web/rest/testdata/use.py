"""Use the generated client: use.py URL CA TOKENS, where TOKENS is JSON with a token of each role."""
import json
import ssl
import sys

import client

url, ca, tokens = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False  # the test's certificate is for another name
viewer, operator, admin = (client.Client(url, tokens[r], context) for r in ("viewer", "operator", "admin"))


def refused(status, code, call, **arguments):
    try:
        call(**arguments)
    except client.Failed as e:
        assert (e.status, e.code) == (status, code), (e.status, e.code, e)
        return e
    raise AssertionError(f"{call} was not refused")


status = viewer.get_status()
assert [h["name"] for h in status["hosts"]] == ["node1", "node2", "node3"], status
assert isinstance(status["hosts"][0]["silent_ns"], int)

e = refused(403, "permission_denied", viewer.set_maintenance, host="node3", on=True)
assert e.remedy == "ask an admin", e.remedy
operator.set_maintenance("node3", on=True)
operator.set_maintenance("node3", on=False, idempotency_key="k1")
operator.set_maintenance("node3", on=True, idempotency_key="k1")
refused(400, "invalid_argument", operator.set_maintenance, host="node3", on="yes")
refused(401, "unauthenticated", client.Client(url, "holdfast_x_y", context).get_status)

page = viewer.list_hosts(limit=3)
rest = viewer.list_hosts(limit=3, page=page["next_page"])
assert [h["name"] for h in page["hosts"] + rest["hosts"]] == ["node1", "node2", "node3", "node4"], (page, rest)

made = admin.create_token(name="from python", role="viewer", days=2)
assert client.Client(url, made["secret"], context).get_version()["api"] == "v1"
admin.revoke_token(made["token"]["id"])
refused(401, "unauthenticated", client.Client(url, made["secret"], context).get_version)

seen = next(viewer.watch_status())
assert seen["owner"]["host"] == "node1", seen

job = operator.drain_host("node1")
assert operator.get_job(job["id"])["kind"] == job["kind"], job
assert [j["id"] for j in viewer.list_jobs(id=job["id"])["jobs"]] == [job["id"]]
print("done")
