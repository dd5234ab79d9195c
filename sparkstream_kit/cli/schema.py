"""The command `sparkstream schema`: the columns of sample files, of a subject, or of a topic."""

from __future__ import annotations

import json as json_text
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sparkstream_kit._internal.file_system import plain
from sparkstream_kit.cli.common import Json, argument, flag, say, show_json, switch
from sparkstream_kit.connectors import need
from sparkstream_kit.errors import InvalidInputError, reject_unknown, without_secrets

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

    from sparkstream_kit.connectors._registry.client import Registry

SCHEMA = (
    "Print the columns of sample files, of a subject in a schema registry, or of a topic"
    " of Kafka, as Python code.\n\n"
    "Of files: Spark infers double for money; make it decimal. Standard error says what a"
    " source of these files must be told, such as header=True.\n\n"
    "Of a topic: it also says what its newest records are, and the code reads them.\n\n"
    "sparkstream schema --registry http://localhost:8081 orders-value\n\n"
    "sparkstream schema --topic orders --bootstrap localhost:9092"
)
_FORMATS = ("csv", "json", "orc", "parquet")
_ENVIRONMENT = "env:"
_WAIT = 5  # seconds for which a registry that is away is asked again


_Path = Annotated[
    str | None,
    argument(
        "PATH", "Sample files: a file, a folder or a glob. With --registry, a subject."
    ),
]
_Format = Annotated[
    str | None, flag("NAME", f"{', '.join(_FORMATS)}. Default: by their names.")
]
_Header = Annotated[
    bool | None,
    switch(
        "--header/--no-header",
        "Line 1 of CSV files is a header. Default: by its look.",
    ),
]
_Url = Annotated[
    str | None,
    flag(
        "URL",
        "A schema registry. env:NAME reads the URL, with user and password, from the"
        " environment variable NAME.",
    ),
]
_TokenEnv = Annotated[
    str | None,
    flag("NAME", "The environment variable that holds the registry's token."),
]
_Ca = Annotated[
    str | None, flag("FILE", "The certificates to trust at the registry, PEM.")
]
_Certificate = Annotated[
    str | None, flag("FILE", "The certificate to log in with at the registry, PEM.")
]
_Key = Annotated[str | None, flag("FILE", "The key of --certificate, PEM.")]
_Topic = Annotated[
    str | None, flag("TOPIC", "A topic of Kafka, whose newest records are read.")
]
_Bootstrap = Annotated[
    str | None, flag("SERVERS", "The brokers of --topic, such as localhost:9092.")
]
_Records = Annotated[int, flag("N", "How many records of --topic are read.", min=1)]
_Option = Annotated[
    list[str] | None,
    flag(
        "NAME=VALUE",
        "With --topic, an option of sources.kafka, such as"
        " kafka.security.protocol=SASL_SSL. VALUE can be env:NAME.",
    ),
]
_Message = Annotated[
    str | None,
    flag(
        "NAME",
        "With --registry, a message of Protobuf, such as shop.Order. Default: the first"
        " of its subject, or that of most records.",
    ),
]
_Contract = Annotated[
    bool, switch("--contract", "Write a data contract (ODCS), as a start.")
]


def schema(
    path: _Path = None,
    *,
    format: _Format = None,  # noqa: A002
    header: _Header = None,
    contract: _Contract = False,
    registry: _Url = None,
    token_env: _TokenEnv = None,
    ca: _Ca = None,
    certificate: _Certificate = None,
    key: _Key = None,
    topic: _Topic = None,
    bootstrap: _Bootstrap = None,
    records: _Records = 100,
    option: _Option = None,
    message: _Message = None,
    json: Json = False,
) -> None:
    """Print columns as Python code, as JSON or as a contract."""
    given = {
        "PATH": path,
        "--format": format,
        "--header": header,
        "--contract": contract or None,
        "--registry": registry,
        "--token-env": token_env,
        "--ca": ca,
        "--certificate": certificate,
        "--key": key,
        "--topic": topic,
        "--bootstrap": bootstrap,
        "--option": option or None,
        "--message": message,
    }
    # Before the session, which takes some seconds to start.
    _check_flags({name for name, value in given.items() if value is not None})
    if contract:
        need("schema --contract", "contract", "open_data_contract_standard")
    asked = None
    if registry is not None:
        asked = _registry(registry, token_env, ca, certificate, key)
    if topic is not None:
        _of_topic(
            topic, str(bootstrap), asked, option or [], records, message, json=json
        )
    elif asked is not None:
        _of_subject(asked.registry, str(path), message, contract=contract, json=json)
    else:
        _of_files(str(path), format, header, contract=contract, json=json)


# What does nothing without another flag, or with it
_NEEDS = {
    "--bootstrap": "--topic",
    "--ca": "--registry",
    "--certificate": "--registry",
    "--key": "--registry",
    "--message": "--registry",
    "--option": "--topic",
    "--token-env": "--registry",
    "--topic": "--bootstrap",
}
_EXCLUDES = {
    "--format": ("--registry", "--topic"),
    "--header": ("--registry", "--topic"),
    "--contract": ("--topic",),
    "PATH": ("--topic",),
}


def _check_flags(given: set[str]) -> None:
    """Refuse flags that do not go together, and nothing to look into.

    Raises:
        InvalidInputError: a flag needs or excludes another one, or there is nothing to
            look into.
    """
    for name, other in _NEEDS.items():
        if name in given and other not in given:
            raise InvalidInputError(
                f"schema: {name} does nothing without {other}; give both, or neither"
            )
    for name, others in _EXCLUDES.items():
        for other in others:
            if name in given and other in given:
                raise InvalidInputError(
                    f"schema: {name} and {other} exclude each other; give one of them"
                )
    if not given & {"PATH", "--topic"}:
        raise InvalidInputError(
            "schema: nothing to look into; give PATH, --registry URL SUBJECT, or --topic"
            " TOPIC --bootstrap SERVERS"
        )


def _of_files(
    path: str,
    form: str | None,
    header: bool | None,
    *,
    contract: bool,
    json: bool,
) -> None:
    if form is not None:
        reject_unknown("--format", [form], _FORMATS)
    is_local = plain(path) is not None
    is_glob = re.search(r"[*?\[{]", path) is not None
    if is_local and not is_glob and not Path(path).exists():
        raise InvalidInputError(
            f"{path} does not exist; give the path of a file, a folder or a glob"
        )
    from sparkstream_kit import schemas, spark_session

    with spark_session("sparkstream schema", profile="local") as spark:
        options = {}
        if header is not None:
            options["header"] = header
        found = schemas.infer(spark, path, format=form, **options)
        _print(found, Path(path).stem, contract=contract, json=json)


def _print(found: StructType, name: str, *, contract: bool, json: bool) -> None:
    """Print columns as Python code, JSON, or the contract of a table with a name."""
    from sparkstream_kit import schemas
    from sparkstream_kit.schemas.drafts import draft

    if contract:
        table = re.sub(r"\W+", "_", name).strip("_")
        typer.echo(draft(found, table or "rows"), nl=False)
    elif json:
        show_json(schema=found.jsonValue())
    else:
        typer.echo(schemas.to_code(found), nl=False)


# --- a registry


class _Registry(NamedTuple):
    """A registry, and Python's code that makes it."""

    registry: Registry
    code: str


def _registry(
    address: str,
    token_env: str | None,
    ca: str | None,
    certificate: str | None,
    key: str | None,
) -> _Registry:
    """Return the registry at an address, or at that in an environment variable.

    Raises:
        InvalidInputError: the address has a password, which others can see in the
            command line; a variable is not set; or as for `schemas.registry`.
    """
    from sparkstream_kit import schemas

    url, code = _value("--registry", address)
    words = [code]
    more: dict[str, Any] = {}
    if token_env is not None:
        more["token"], token = _value("--token-env", f"{_ENVIRONMENT}{token_env}")
        words.append(f"token={token}")
    for name, file in {"ca": ca, "certificate": certificate, "key": key}.items():
        if file is not None:
            more[name] = file
            words.append(f"{name}={_quoted(file)}")
    found = schemas.registry(url, wait=_WAIT, **more)
    return _Registry(found, f"schemas.registry({', '.join(words)})")


def _value(flag_name: str, text: str) -> tuple[str, str]:
    """Return the value of a flag, which env:NAME reads from the environment, and its code.

    Raises:
        InvalidInputError: the variable is not set, or there is a password in the text.
    """
    if text.startswith(_ENVIRONMENT):
        name = text.removeprefix(_ENVIRONMENT)
        value = os.environ.get(name, "")
        if not value:
            raise InvalidInputError(
                f"{flag_name}: the environment variable {name} is not set; put the value"
                " there"
            )
        return value, f"os.environ[{_quoted(name)}]"
    if without_secrets(text) != text:
        raise InvalidInputError(
            f"{flag_name}: others can see a password on the command line; put the value"
            " into an environment variable, and give env:NAME"
        )
    return text, _quoted(text)


def _quoted(text: str) -> str:
    return json_text.dumps(text, ensure_ascii=False)


def _of_subject(
    registry: Registry,
    subject: str,
    message: str | None,
    *,
    contract: bool,
    json: bool,
) -> None:
    from sparkstream_kit import spark_session
    from sparkstream_kit.schemas.registered import PARSERS, columns_of

    newest = registry.latest(subject)
    if newest is None:
        raise InvalidInputError(
            f"schema registry {registry.place} has no subject {subject}; correct the"
            " name: that of a topic's values is TOPIC-value"
        )
    found = columns_of(newest, f"subject {subject}", message)
    say(
        f"subject {subject}: version {newest.version} has the id {newest.id}, for"
        f" quarantine.{PARSERS[newest.kind]}"
    )
    for remark in found.remarks:
        say(remark)
    if message is None and len(found.messages) > 1:
        names = ", ".join(found.messages)
        say(f"its messages are {names}: the columns are those of the first")
    with spark_session("sparkstream schema", profile="local"):
        _print(found.schema, subject, contract=contract, json=json)


# --- a topic


def _of_topic(
    topic: str,
    servers: str,
    registry: _Registry | None,
    options: list[str],
    most: int,
    message: str | None,
    *,
    json: bool,
) -> None:
    settings = {}
    code = {}
    for each in options:
        name, equals, text = each.partition("=")
        if not equals:
            raise InvalidInputError(
                f"--option {each} has no value; give NAME=VALUE, such as"
                " kafka.security.protocol=SASL_SSL"
            )
        settings[name], code[name] = _value(f"--option {name}", text)
    from sparkstream_kit import spark_session
    from sparkstream_kit.cli.topics import Place, described, newest, said

    place = Place(
        servers,
        topic,
        settings,
        None if registry is None else registry.registry,
        "" if registry is None else registry.code,
        code,
    )
    with spark_session(
        "sparkstream schema", profile="local", connectors=["kafka"]
    ) as spark:
        found = described(spark, place, newest(spark, place, most), message)
    if json:
        show_json(topic=found)
        return
    for remark in found.remarks:
        say(remark)
    typer.echo(f"{said(found)}{found.code}", nl=False)
