"""`--kafka` on the jobs that read lines: one of it and INPUT_DIR, and a topic with it."""

import importlib

import pytest
from conftest import ROOT

from sparkstream_kit import jobflags
from sparkstream_kit.errors import InvalidInputError

KAFKA = ("--kafka", "localhost:9092", "--topic", "lines")
# Of each job: the arguments after INPUT_DIR that it must have.
JOBS: dict[str, tuple[str, ...]] = {
    "action_rows": ("OUT",),
    "ad_join": ("OUT",),
    "card_alerts": ("OUT",),
    "events_to_postgres": ("--database", "sqlite:///shop.db", "--checkpoint", "CKPT"),
    "log_errors": ("OUT",),
    "sales_clean": ("OUT",),
    "sales_totals": (),
    "score_posts": ("MODEL", "OUT"),
    "sensor_alerts": ("OUT",),
}
WORDS = "kafka_word_count"
READ = "which input it asks for: "


@pytest.fixture(autouse=True)
def no_session(monkeypatch, folder):
    """Let a job end where it would start Spark, and say what it would read."""

    def said(args):
        raise InvalidInputError(
            f"{READ}{(args.kafka, args.topic, getattr(args, 'input_dir', None))}"
        )

    monkeypatch.setattr(jobflags, "for_session", said)
    monkeypatch.chdir(folder.parent)


def said(capsys, job, *words):
    assert importlib.import_module(job).main(list(words)) == 2
    line: str = capsys.readouterr().err
    assert line.count("\n") == 1
    return line.partition(": ")[2].strip()


def test_every_job_that_reads_lines_is_here():
    texts = {
        path.stem: path.read_text("utf-8") for path in (ROOT / "jobs").glob("*.py")
    }
    read = {
        job
        for job, text in texts.items()
        if "jobflags.lines(" in text and "jobflags.POSTS" not in text
    }
    assert read == {*JOBS, WORDS}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_reads_a_folder_or_a_topic(job, capsys):
    more = JOBS[job]
    assert said(capsys, job, "in", *more) == f"{READ}(None, None, 'in')"
    topic = f"{READ}('localhost:9092', 'lines', None)"
    assert said(capsys, job, *KAFKA, *more) == topic
    assert said(capsys, job, *more, "--kafka=localhost:9092", "--topic=lines") == topic
    both = "--kafka is in place of INPUT_DIR: leave out one of them; see --help"
    assert said(capsys, job, *KAFKA, "in", *more) == both
    assert said(capsys, job, "in", *more, *KAFKA) == both
    assert "required: INPUT_DIR or --kafka" in said(
        capsys, job, *(() if more and more[0].isupper() else more)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (KAFKA[:2], "--kafka does nothing without --topic; give both, or neither"),
        (
            ("in", *KAFKA[2:]),
            "--topic does nothing without --kafka; give both, or neither",
        ),
        (
            (*KAFKA, "--max-offsets-per-trigger", "0"),
            "--max-offsets-per-trigger: '0' is not a whole number",
        ),
        (
            ("--kafka", "9092", *KAFKA[2:]),
            "argument --kafka: '9092' is not host:port, such as localhost:9092",
        ),
        (
            ("--kafka", "a:70000", *KAFKA[2:]),
            "argument --kafka: 'a:70000' is not host:port",
        ),
        (
            ("--kafka", "a:1", "--topci", "b"),
            "unknown argument --topci; did you mean --topic?",
        ),
        (
            ("in", "--max-offsets-per-trigger", "5"),
            "--max-offsets-per-trigger does nothing without --kafka",
        ),
        (
            ("--kafka", "a:1,b", *KAFKA[2:]),
            "argument --kafka: 'b' is not host:port, such as localhost:9092",
        ),
    ],
)
def test_what_cannot_be_is_one_line(words, message, capsys):
    assert message in said(capsys, "sales_totals", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: --kafka, --topic; see --help"),
        (KAFKA, f"{READ}('localhost:9092', 'lines', None)"),
        (
            (*KAFKA, "--to", "lines", "--checkpoint", "c"),
            "--to lines is the topic that is read; give another",
        ),
        (
            (*KAFKA, "--to", "counts"),
            "--to needs --checkpoint: without one, every start would write all",
        ),
    ],
)
def test_the_word_count_reads_a_topic_alone(words, message, capsys):
    assert said(capsys, WORDS, *words).startswith(message)
