"""A password, given rightly or wrongly, is in nothing that the kit or Spark shows."""

import importlib
import json
import subprocess
import urllib.request
from collections.abc import Callable

import pytest
import typer
from conftest import HANGS, ROOT, command, environment
from support import postgresql

from sparkstream_kit import feeds, get_session, schemas, sinks, sources, start
from sparkstream_kit.cli import main
from sparkstream_kit.cli.app import app
from sparkstream_kit.errors import InvalidInputError, KitError, without_secrets

URL = "postgresql://kit:hush@host/db"

# --- the texts


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://kit:***@host/db"),
        ("postgresql+psycopg://kit:hu@sh@host/db", "postgresql+psycopg://kit:***@host/db"),
        ("no file postgresql:/kit:hush@host/db", "no file postgresql:/kit:***@host/db"),
        ("--snapshot=s3a://:hush@bucket/a, and more", "--snapshot=s3a://:***@bucket/a, and more"),
        ("postgresql://kit:hu/sh@host/db", "postgresql://kit:***@host/db"),
        ("postgresql://kit:1234@host:5432/db@x", "postgresql://kit:***@x"),
        ("hdfs://nn:8020/a and postgresql://kit:hush@host/db", "hdfs://nn:8020/a and postgresql://kit:***@host/db"),
        ("sc://host:15002/;user_id=me;token=hush;x=y", "sc://host:15002/;user_id=me;token=***;x=y"),
        ("jdbc:postgresql://host/db?user=kit&password=hush&a=b", "jdbc:postgresql://host/db?user=kit&password=***&a=b"),
        ("postgresql://host/db?sslpassword=hush", "postgresql://host/db?sslpassword=***"),
    ],
)  # fmt: skip
def test_what_is_secret_is_left_out(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        (
            "org.apache.kafka.common.security.plain.PlainLoginModule required"
            ' username="kit" password="hush";'
        ),
        r'{\"sasl.jaas.config\": \"… required username=\\\"kit\\\" password=\\\"hush\\\";\"}',
        "password='hu;sh'", "password = hush", "password=say,hush",
        "Map(user -> kit, password -> hush)", '{"password": "hu\\"hush"}',
        "{'user': 'kit', 'password': 'hush'}", '{"token":"hush","next":1}',
        "user: kit\npassword: hush", "- token: hush", "api_key: hush", "client_secret: 'hush'",
        "sparkstream feed --password hush", "run --api-key hush --run-for 5", "--db.password=hush",
        "https://hush@host/api/v1/streaming", "http://kit:hush@host", "redis://:hush@host/0",
        "mongodb+srv://kit:hush@cluster.example.com/?retryWrites=true",
        "jdbc:oracle:thin:kit/hush@//host:1521/db",
        "jdbc:sqlserver://host:1433;user=kit;password=hush;encrypt=true",
        "jdbc:mysql://host/db?user=kit&password=hush",
        "AccountName=kit;AccountKey=hush==;EndpointSuffix=core.windows.net",
        "fs.azure.account.key.kit.dfs.core.windows.net=hush",
        "Endpoint=sb://kit/;SharedAccessKeyName=all;SharedAccessKey=hush=",
        "https://kit.blob.core.windows.net/a?sv=2024&sig=hush%3D",
        "https://bucket.s3.amazonaws.com/a?X-Amz-Credential=hush/1/eu&X-Amz-Signature=hush",
        "aws_secret_access_key = hush/+",
        "Authorization: Bearer hush", "'Authorization': 'Token hush'",
        "curl -H 'authorization: Basic aHVzaDpodXNo=hush'", "bearer hush",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIhush\nhush\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIhush",
        '.option("kafka.ssl.key.password", "hush")', "<password>hush</password>",
        "Cookie: session=hush",
        "<name>fs.s3a.secret.key</name>\n  <value>hush</value>", "CREATE USER kit PASSWORD 'hush'",
        "IDENTIFIED BY 'hush'",
    ],
)  # fmt: skip
def test_a_secret_is_left_out_in_each_form_that_systems_write_it(text):
    assert "hush" not in without_secrets(text)
    assert "***" in without_secrets(text)


def test_keys_are_known_by_their_form():
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s1gn4tur3"
    assert (
        without_secrets(f"AKIAIOSFODNN7EXAMPLE, {jwt} and ghp_{'a1' * 18}")
        == "***, *** and ***"
    )


@pytest.mark.parametrize(
    "text",
    [
        "column token: string", "select('token', 'count')", "struct<token:string,n:int>",
        "Syntax error at token 'FROM'",
        "max_tokens: 5", "a basic example", "design=3", "bypass=1", "partition key=7",
        "primary key: id",
        "the password is wrong",
        "Kafka needs a token", "key=1&value=2",
        "sqlite:///a:b@c.db",
        "hdfs://namenode:8020/sales",
        "postgresql://kit@host:5432/db",
        "a@b",
        "hdfs://nn:8020/user/me@corp/ckpt",
        "sparkstream checkpoint rewind hdfs:/nn:8020/user/me@corp/a@b --to 3",
        "http://localhost:4040/streaming?name=me@corp",
        "http://localhost:8080?name=me@corp",
    ],
)  # fmt: skip
def test_what_is_not_secret_stays(text):
    assert without_secrets(text) == text


def all_errors(base=KitError):
    yield base
    for each in base.__subclasses__():
        yield from all_errors(each)


@pytest.mark.parametrize("error", list(all_errors()), ids=lambda error: error.__name__)
def test_every_error_of_the_kit_leaves_it_out(error):
    raised = error(*[URL] * (2 if error.__init__.__code__.co_argcount > 2 else 1))
    assert (
        "hush"
        not in f"{raised} {raised!r} {raised.args} {getattr(raised, 'cause', '')}"
    )
    assert "postgresql://kit:***@host/db" in str(raised)


def _read(port, what, api="api/v1/"):
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/{api}{what}", timeout=10
        ) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))


def _parser_of(job):
    """Return the parser that a job's `main` makes, at its first use."""

    class Made(Exception):  # noqa: N818 - no error
        pass

    def end(parser, *_):
        raise Made(parser)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Made) as made:
        patch.setattr("sparkstream_kit.jobflags.parsing._Parser.parse_args", end)
        importlib.import_module(job).main([])
    return made.value.args[0]


@pytest.mark.parametrize("job", JOBS)
def test_no_argument_of_a_job_is_repeated_with_its_password(job):
    parser = _parser_of(job)
    given = [["."] * 3 + [URL], [f"--{URL}"], [f"--unknown={URL}"], ["--profil", URL]]
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
        given += [[".", "9", f"{flag}={URL}"] for flag in action.option_strings]
        if not action.option_strings:
            given.append([URL, URL])
    said = []
    for arguments in given:
        try:
            parser.parse_args(arguments)
        except InvalidInputError as err:
            said.append(str(err))
    assert "hush" not in "\n".join(said)
    flags = len(parser._actions)  # noqa: SLF001
    assert len(said) > min(8, flags)
    assert sum("kit:***@host" in line for line in said) > min(4, flags - 2)


# --- the command lines


def _commands(group, *path):
    if not hasattr(group, "commands"):
        yield list(path), group
        return
    for name, inner in group.commands.items():
        yield from _commands(inner, *path, name)


@pytest.mark.parametrize(
    ("path", "inner"), list(_commands(typer.main.get_command(app))), ids=str
)
def test_no_argument_of_a_command_is_repeated_with_its_password(
    path, inner, tmp_path, monkeypatch, capfd, spark
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lands_files = any("--files" in each.opts for each in inner.params)
    ends = ["--files", "1", "--every", "0"] if lands_files else []
    needed = [
        "x"
        for each in inner.params
        if each.required and not each.opts[0].startswith("-")
    ]
    given = [[URL, *needed], [f"--{URL}"], [*needed, URL]]
    for each in inner.params:
        if each.opts[0].startswith("-") and not each.is_flag and each.name != "help":
            given.append([f"{each.opts[0]}={URL}", *needed, *ends])
        elif each.opts[0].startswith("-"):
            given.append([f"{each.opts[0]}={URL}", *needed])
    if needed:
        given.append([*[URL] * len(needed), *ends])
    codes = [main([*path, *arguments]) for arguments in given]
    printed = "".join(capfd.readouterr())
    assert "hush" not in printed
    assert codes.count(2) > len(codes) / 2
    assert "kit:***@host" in printed


def test_no_argument_of_the_library_is_repeated_with_its_password(spark, folder):
    frame = sources.text(spark, str(folder))
    calls: list[Callable[[], object]] = [
        lambda: get_session("x", profile=URL),
        lambda: get_session("x", conf={"spark.hadoop.fs.s3a.secret.key": "hush"}),
        lambda: get_session("x", conf={"spark.driver.memory": URL}),
        lambda: sinks.snapshot(URL),
        lambda: start(frame, sinks.memory("m"), mode=URL, name="x"),
        lambda: start(frame, sinks.memory("m"), name="x", **{URL: True}),  # type: ignore[arg-type]
        lambda: schemas.from_ddl(URL),
        lambda: feeds.text_lines(URL),
    ]
    for call in calls:
        with pytest.raises(KitError) as raised:
            call()
        assert "hush" not in str(raised.value)


# --- what Spark shows


@pytest.mark.slow
def test_spark_s_web_page_does_not_have_the_password(
    tmp_path, folder, until, free_port
):
    server = postgresql.server()
    feeds.drip(feeds.sales_files(1, rows=10, seed=1), folder)
    submit = command(
        "spark-submit", "sales_totals", folder, "--database", "env:KIT_DATABASE"
    )
    running = subprocess.Popen(
        [submit[0], "--conf", f"spark.ui.port={free_port}", *submit[1:]],
        env=environment(KIT_DATABASE=server.database()),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: '"id"' in _read(free_port, "applications"), 120)
        [application] = json.loads(_read(free_port, "applications"))
        of_it = f"applications/{application['id']}"
        # A batch is through
        until(lambda: _read(free_port, f"{of_it}/sql").count('"COMPLETED"') > 1, 120)
        pages = [
            _read(free_port, f"{of_it}/{what}")
            for what in ("environment", "sql", "jobs", "stages")
        ]
        pages += [
            _read(free_port, what, api="")
            for what in ("environment/", "SQL/", "jobs/", "StreamingQuery/")
        ]
        assert "--database env:KIT_DATABASE" in pages[0]  # it shows the command line
        assert all(pages)
        assert not [page for page in pages if server.password in page]
    finally:
        running.terminate()
        running.communicate(timeout=HANGS)
