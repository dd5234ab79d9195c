"""`sparkstream new`: make a folder with a copy of a job, to write a job of your own.

Beside the copy are its test, sample data, a README and notes for agents. With
`--pipeline` the folder has a pipeline of Spark in place of a job.

`make` and `make_pipeline` do the work. `LIKE` lists the jobs that can be copied, each
with its sample data and its command.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparkstream_kit import feeds
from sparkstream_kit.errors import InvalidInputError, reject_unknown
from sparkstream_kit.feeds.datasets import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.resources.abc import Traversable


DEFAULT = "hourly_sales"
# Letters of a name; file names, which are longer than the name, may have 255 bytes
_LONGEST = 100
_ROWS = 200  # rows of sample data, in two files of 100
_SEED = 1
_TEST = "python -m pytest"
_PAGES = (".gitignore", "AGENTS.md", "README.md")
_TABLES = "shop_tables"  # the module of the template of a pipeline
# Keeps the list of tables in the folder, from one run of a pipeline to the next
_KEPT = "--conf spark.sql.catalogImplementation=hive"


class _Like(NamedTuple):
    """A job that can be copied, with its sample data and the command that runs the job on them.

    Attributes:
        file: the name of the data files without their numbers, such as `sales.csv`.
        lines: makes the data, called as `lines(count, seed)`.
        run: the command that runs the job on the data; {job} stands for the file of the
            job.
        extras: the extras of the kit that the job needs in addition to `cli` and
            `testing`.
        needs: what else the job needs, as a part of a sentence in the README.
        beside: the file of another job that the command runs first, which is copied,
            too; empty for none.
    """

    file: str
    lines: Callable[[int, int], Iterable[str]]
    run: str
    extras: tuple[str, ...] = ()
    needs: str = ""
    beside: str = ""


def _like(dataset: str, run: str, *extras: str) -> _Like:
    """Return a job to copy whose sample data comes from one of `DATASETS`."""
    known = DATASETS[dataset]

    def lines(count: int, seed: int) -> Iterable[str]:
        return map(known.line, known.rows(count, seed=seed))

    return _Like(known.file, lines, run, extras)


def _words(count: int, seed: int) -> Iterable[str]:
    return feeds.random_lines(seed, count=count)


def _sales(count: int, seed: int) -> Iterable[str]:
    return map(feeds.csv_line, feeds.sales_rows(count, seed=seed))


def _hourly_sales(count: int, seed: int) -> Iterable[str]:
    for number, row in enumerate(feeds.events_rows(count, seed=seed)):
        # Over five hours, not one
        time = row["time"].replace("T09", f"T{9 + number * 5 // count:02}")
        yield feeds.json_line(
            {"time": time, "product": row["product"], "amount": 1 + number % 9}
        )


def _orders(count: int, seed: int) -> Iterable[str]:
    for number, row in enumerate(feeds.events_rows(count, seed=seed)):
        order: dict[str, object] = {"order_id": row["event_id"], "time": row["time"]}
        order |= {"product": row["product"], "quantity": 1 + number % 9}
        yield feeds.json_line(order | {"price": row["price"]})


def _sales_of_a_pipeline(count: int, seed: int) -> Iterable[str]:
    """Yield sales as lines of JSON, three of which are bad."""
    for number, line in enumerate(_hourly_sales(count, seed)):
        if number == count // 4:
            yield re.sub('"amount": .*', '"amount": "two"}', line)
        elif number == count // 3:
            yield re.sub('"amount": .*', '"amount": 0}', line)
        elif number == count // 2:
            yield line[:-8]
        else:
            yield line


_ON_DATA = "python {job} data --available-now"
_INTO = "python {job} data out --available-now"
_DRAINED = f"{_INTO} --drain"
_TRAINED = (
    "python train_posts.py data model --library sklearn && python {job} data model out"
    " --available-now"
)
_SORTED = (
    "python action_rows.py data in --available-now && python {job} in/rows out"
    " --available-now --drain"
)
_FROM_KAFKA = (
    "spark-submit $(sparkstream connectors kafka) {job} --kafka localhost:9092 --topic"
    " lines"
)
_ORDERS = (
    "spark-submit $(sparkstream connectors kafka) {job} out --kafka localhost:9092"
    " --topic orders --registry http://localhost:8081 --to checked"
)
_SERVED = (
    "sparkstream feed lines --file data/lines-1.txt --clients 1 & python {job}"
    " localhost 9999"
)
_A_TOPIC = ", which are for a topic `lines` of a broker"
_A_TOPIC_OF_AVRO = ", which are for a topic `orders` of a broker, as records of Avro"
LIKE = {
    "action_rows": _like("actions", _INTO),
    "action_windows": _like("actions", _SORTED)._replace(beside="action_rows.py"),
    "ad_join": _like("ads", _DRAINED),
    "card_alerts": _like("cards", _DRAINED, "state"),
    "events_to_postgres": _like(
        "events",
        f"{_ON_DATA} --database sqlite:///events.db --checkpoint ckpt",
        "sql",
        "state",
    ),
    "hashtag_trends": _like("posts", f"{_ON_DATA} --drain"),
    "hourly_sales": _Like("sales.json", _hourly_sales, _INTO),
    "kafka_orders": _Like(
        "orders.json", _orders, _ORDERS, ("avro", "kafka"), _A_TOPIC_OF_AVRO
    ),
    "kafka_word_count": _Like("lines.txt", _words, _FROM_KAFKA, needs=_A_TOPIC),
    "log_errors": _like("logs", _DRAINED),
    "sales_clean": _Like("sales.csv", _sales, _INTO),
    "sales_totals": _Like("sales.csv", _sales, _ON_DATA),
    "score_posts": (
        _like("messages", _TRAINED, "sklearn")._replace(beside="train_posts.py")
    ),
    "sensor_alerts": _like("sensors", _DRAINED, "state"),
    "socket_wordcount": _Like("lines.txt", _words, _SERVED),
}


class Project(NamedTuple):
    """What was made: the folder, its files, and the commands that run the job and its test.

    `beside` says in brackets what the file of the other job is for; it is empty if
    there is none.
    """

    folder: Path
    files: list[str]
    commands: list[str]
    beside: str


def make(name: str, like: str = DEFAULT) -> Project:
    """Make a folder with a copy of a job, completely or not at all.

    Beside the copy are its test, sample data and two pages.

    Args:
        name: the folder to make in the current folder, and the name of the job, such as
            "my-job".
        like: the job to copy, one of `LIKE`.

    Raises:
        InvalidInputError: the name cannot be the name of a Python module or a module
            already has it, there is no such job, or the folder exists and is not empty.
    """
    reject_unknown("job of --like", [like], LIKE)
    folder = Path(name)
    _refuse_taken(name, folder)
    known = LIKE[like]
    module = _module(name, known.beside)
    job = f"{module}.py"
    commands = [known.run.format(job=job), _TEST]
    beside = _said_beside(like, module)
    page_words = {
        "name": name,
        "like": like,
        "job": job,
        "beside": beside,
        "extras": ",".join(sorted({"cli", "testing", *known.extras})),
        "needs": known.needs,
        "run": commands[0],
        "test": commands[1],
    }

    def fill(made: Path) -> None:
        _write_jobs(made, like, module)
        _write_pages(made, "templates", _PAGES, page_words)
        _write_data(made / "data", known.file, known.lines(_ROWS, _SEED))

    return Project(folder, _made_whole(folder, fill), commands, beside)


def make_pipeline(name: str) -> Project:
    """Make a folder with a pipeline of Spark, its tests, sample data and two pages, or nothing.

    Args:
        name: the folder to make in the current folder, and the name of the pipeline,
            such as "my-shop".

    Raises:
        InvalidInputError: the name cannot be the name of a Python module or a module
            already has it, or the folder exists and is not empty.
    """
    folder = Path(name)
    _refuse_taken(name, folder)
    module = _module(name, "")
    file = f"transformations/{module}.py"
    commands = [f"spark-pipelines run {_KEPT}", _TEST]
    page_words = {
        "name": name,
        "module": module,
        "file": file,
        "storage": (Path.cwd() / name / "storage").as_uri(),
        "run": commands[0],
        "dry_run": f"spark-pipelines dry-run {_KEPT}",
        "kept": _KEPT,
        "test": commands[1],
    }

    def fill(made: Path) -> None:
        (made / "transformations").mkdir()
        copies = {
            file: f"templates/pipeline/{_TABLES}.py",
            f"test_{module}.py": f"templates/pipeline/test_{_TABLES}.py",
        }
        _write_copies(made, copies, _TABLES, module)
        pages = (*_PAGES, "spark-pipeline.yml")
        _write_pages(made, "templates/pipeline", pages, page_words)
        lines = _sales_of_a_pipeline(_ROWS, _SEED)
        _write_data(made / "data", "sales.json", lines)

    return Project(folder, _made_whole(folder, fill), commands, "")


def _made_whole(folder: Path, fill: Callable[[Path], None]) -> list[str]:
    """Make a folder, completely or not at all, and return the names of its files.

    Args:
        folder: the folder, which does not exist or is empty.
        fill: writes the files into a folder of the same name.

    Raises:
        InvalidInputError: the folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(
            dir=".", prefix=".new-", ignore_cleanup_errors=True
        ) as hidden:
            made = Path(hidden, folder.name)
            made.mkdir()
            fill(made)
            paths = [path for path in made.rglob("*") if path.is_file()]
            files = sorted(str(path.relative_to(made)) for path in paths)
            made.rename(folder)  # replaces an empty folder, too
    except OSError as err:
        raise InvalidInputError(
            f"cannot make {folder} ({err.strerror}); go to a folder to write in"
        ) from err
    return files


def _said_beside(like: str, module: str) -> str:
    """Say in brackets what the job beside is for: the first line of its docstring."""
    beside = LIKE[like].beside
    if not beside:
        return ""
    text = _renamed(_template(beside), like, module)
    first_line = text.partition('"""')[2].partition(".\n")[0]
    return f" ({beside} runs first: {first_line})"


def _write_jobs(folder: Path, like: str, module: str) -> None:
    """Write the copy of a job, its test, and the job that runs first, with the new names."""
    copies = {
        f"{module}.py": f"{like}.py",
        f"test_{module}.py": f"templates/test_{like}.py",
    }
    beside = LIKE[like].beside
    if beside:
        copies[beside] = beside
    _write_copies(folder, copies, like, module)


def _write_copies(folder: Path, copies: dict[str, str], name: str, module: str) -> None:
    """Write copies of templates, each by its new file, with new names in place of the old one."""
    for file, source in copies.items():
        text = _renamed(_template(source), name, module)
        (folder / file).write_text(text, "utf-8")


def _write_pages(
    folder: Path, templates: str, pages: Iterable[str], words: dict[str, str]
) -> None:
    """Write the README and what else a project has beside its code."""
    for page in pages:
        text = _template(f"{templates}/{page}").format(**words)
        (folder / page).write_text(text, "utf-8")
    # So that pytest does not take the settings of a folder above
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")


def _write_data(folder: Path, name: str, lines: Iterable[str]) -> None:
    """Write sample data in two files: `sales.json` stands for `sales-1.json` and so on."""
    folder.mkdir()
    halves = feeds.line_files(lines, rows=_ROWS // 2, name="{}")
    for number, (_, text) in enumerate(halves, 1):
        file = name.replace(".", f"-{number}.")
        (folder / file).write_text(text, "utf-8")


def _refuse_taken(name: str, folder: Path) -> None:
    """Refuse a name that is too long, or that a file or a folder with something in it has."""
    if len(name) > _LONGEST:
        raise InvalidInputError(
            f"a name of {len(name)} letters is too long; give one of at most {_LONGEST}"
        )
    is_empty = folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
    if (folder.exists() or folder.is_symlink()) and not is_empty:
        raise InvalidInputError(
            f"{name} exists already; give another name, or remove it"
        )


def _module(name: str, beside: str) -> str:
    """Return the name of the job's Python module.

    Raises:
        InvalidInputError: the name is not valid, or it would hide a module that the job
            or pytest imports, or is that of the file `beside` the job.
    """
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        fix = f"give another name, such as {name}-job"
        raise InvalidInputError(
            f"{name} is a keyword of Python and no name for a job; {fix}"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", module):
        fix = "use letters a to z, digits and -, such as my-job"
        raise InvalidInputError(f"{name} is no name for a job; {fix}")
    if (
        module in sys.stdlib_module_names
        or _is_importable(module, Path.cwd() / name)
        or f"{module}.py" == beside
        or module.startswith("test_")
    ):
        raise InvalidInputError(
            f"{name}: a Python module {module} would hide another one; give another"
            " name"
        )
    return module


def _is_importable(module: str, but: Path) -> bool:
    """Return whether there is a module of a name, but the empty folder of the project itself."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return False
    return list(spec.submodule_search_locations or []) != [str(but)]


def _template(name: str) -> str:
    """Return the text of a template, from the wheel or zip of the kit, or else from a checkout."""
    packaged: Traversable = resources.files("sparkstream_kit") / "jobs"
    checkout = Path(__file__).parents[2]
    places = (
        packaged / name,
        checkout / "jobs" / name,
        checkout / "examples" / Path(name).name,
    )
    return next(place for place in places if place.is_file()).read_text("utf-8")


def _renamed(text: str, job: str, module: str) -> str:
    """Return a template with the names of the old job replaced by those of the new one.

    All names are replaced in one pass, because a new name may contain an old one.
    """
    dashed = job.replace("_", "-")
    new = {
        f"jobs/{job}.py": f"{module}.py",
        job: module,
        dashed: module.replace("_", "-"),
    }
    return re.sub("|".join(map(re.escape, new)), lambda found: new[found[0]], text)
