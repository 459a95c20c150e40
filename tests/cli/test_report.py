"""`vidqueue report` and `vidqueue db reader`, against a real daemon."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import psycopg
import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon


def test_a_report_is_a_table_csv_or_json_and_equals_the_jobs(vidqueue: CommandLine, daemon: Daemon) -> None:
    jobs = [daemon.submit(act="work", seconds=0.2) for _ in range(2)]
    jobs.append(daemon.submit(act="raise", max_attempts=1))
    ended = [daemon.ended(job) for job in jobs]
    (row,) = [row for row in vidqueue("report", "usage", "--json").lines if row["processor"] == "zoo"]
    counted = daemon.sql(
        """SELECT count(*) AS attempts, sum(lane_s)::float8 AS lane_s FROM vidqueue_report.attempts WHERE
           processor = 'zoo' AND owner = 'local' AND ended_at IS NOT NULL"""
    )[0]
    assert row["attempts"] == counted["attempts"]
    assert abs(row["lane_s"] - counted["lane_s"]) < 0.01
    assert row["jobs"] >= len(ended)
    table = vidqueue("report", "failures")
    assert (table.code, table.out.split()[:2]) == (0, ["ERROR_CODE", "PROCESSOR"])
    rows = list(csv.DictReader(io.StringIO(vidqueue("report", "failures", "--csv").out)))
    assert {row["error_code"] for row in rows} >= {"processor_error"}
    answer = daemon.http.get("/v1/reports/failures", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert {row["error_code"] for row in csv.DictReader(io.StringIO(answer.text))} >= {"processor_error"}
    assert vidqueue("report", "slowest", "--limit", "1", "--json").lines[0]["lane_s"] > 0
    assert {row["name"] for row in vidqueue("report", "--json").lines} >= {"usage", "cost", "waits", "lanes"}


# As another user would: the socket is made as that user; the interpreter is read as root, who alone may reach it.
_AS_NOBODY = """
import encodings.idna, http.client, json, os, sys
os.seteuid(65534)
asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for method, path, body in json.load(sys.stdin):
    asked.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    print(asked.getresponse().read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_job_belongs_to_the_unix_user_who_submits_it(vidqueue: CommandLine, daemon: Daemon) -> None:
    job = {"processor": "zoo", "input": {"seconds": 0.2}}
    asked = [["GET", "/v1/whoami", None], ["POST", "/v1/jobs", job], ["POST", "/v1/jobs?owner=carl", job]]
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, daemon.url.rpartition(":")[2]],
        input=json.dumps(asked), capture_output=True, text=True, check=True,
    )  # fmt: skip
    who, mine, carls = map(json.loads, done.stdout.splitlines())
    assert (who["owner"], mine["owner"], carls["owner"]) == ("nobody", "nobody", "carl")
    ours = vidqueue("submit", "zoo", "--json").json
    assert ours["owner"] == "local", "the user who runs the daemon"
    for one in (mine, carls, ours):
        daemon.ended(one["id"])
    # Everybody sees everything; owners are for limits, shares and reports.
    assert {line["id"] for line in vidqueue("list", "--all", "--json").lines} >= {mine["id"], carls["id"], ours["id"]}
    rows = vidqueue("report", "usage", "--json").lines
    assert {row["owner"] for row in rows if row["processor"] == "zoo"} >= {"nobody", "carl", "local"}
    assert vidqueue("delete", mine["id"], carls["id"]).code == 0


def test_a_report_of_another_time_is_empty_and_says_so(vidqueue: CommandLine) -> None:
    ran = vidqueue("report", "usage", "--since", "2001-01-01", "--until", "2001-01-02T00:00Z")
    assert (ran.code, ran.out, ran.err.strip()) == (0, "", "No data in this period.")
    for words in (("usage", "--since", "yesterday"), ("usage", "--since", "999999w"), ("nothing",)):
        ran = vidqueue("report", *words)
        assert ran.code in (2, 4, 64), (words, ran)
        assert "Traceback" not in ran.err


def test_one_command_makes_a_role_that_reads_the_reports(vidqueue: CommandLine, daemon: Daemon) -> None:
    place = ("--data-dir", str(daemon.data_dir))
    (vidqueue.folder / "password").write_text("a 'quoted' one\n")
    made = vidqueue("db", "reader", "grafana-reader", "--password-file", "password", *place)
    assert (made.code, made.out) == (0, "grafana-reader can read vidqueue_report, and nothing else.\n")
    assert vidqueue("db", "reader", "grafana-reader", "--json", *place).json == {
        "role": "grafana-reader",
        "created": False,
    }
    url = daemon.database_url.replace("//postgres@", "//grafana-reader@")
    assert url != daemon.database_url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM vidqueue_report.jobs").fetchone() is not None
    refused = vidqueue("db", "reader", "postgres", *place)
    assert refused.code == 1
    assert "may do more" in refused.err
