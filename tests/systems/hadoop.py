"""HDFS and YARN on this machine: a few processes each, with data in a given folder.

The processes are those of the released jar.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from pathlib import Path
from xml.sax.saxutils import escape

import pyspark
from support.ports import free_ports
from systems.daemons import Daemon, java

_HOST = "127.0.0.1"
SPARK_JARS = Path(pyspark.__file__).parent / "jars"
# What the released jar takes from elsewhere; PySpark brings all of it.
_FROM_SPARK = (
    "hadoop-client-api",
    "hadoop-client-runtime",
    "jcl-over",
    "log4j-",
    "slf4j-api",
    "snappy-java",
)
LOG = """rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1} %m%n
"""


class _Hadoop:
    """What the servers of HDFS and of YARN share: settings in files, and calls of Java."""

    def __init__(self, home, jars, **files):
        self.home, self.conf = home, home / "conf"
        self.conf.mkdir(parents=True, exist_ok=True)
        # Not in `conf`: a driver that has this as its HADOOP_CONF_DIR would log so,
        # too.
        (home / "log4j2.properties").write_text(LOG)
        for name, settings in files.items():
            lines = [
                f"<property><name>{key}</name><value>{escape(str(value))}</value></property>"
                for key, value in settings.items()
            ]
            text = "\n".join(["<configuration>", *lines, "</configuration>\n"])
            (self.conf / f"{name.replace('_', '-')}.xml").write_text(text)
        spark = [
            jar
            for name in _FROM_SPARK
            for jar in sorted(SPARK_JARS.glob(f"{name}*.jar"))
        ]
        self._classpath = ":".join(map(str, [self.conf, *jars, *spark]))

    def _command(self, main, *args):
        opens = [
            f"--add-opens=java.base/java.{package}=ALL-UNNAMED"
            for package in ("lang", "util")
        ]
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *opens]
        own = f"-Dlog4j2.configurationFile={self.home}/log4j2.properties"
        flags = [
            "-Djava.net.preferIPv4Stack=true",
            f"-Dhadoop.home.dir={self.home}",
            own,
        ]
        return [java(), *options, *flags, "-cp", self._classpath, main, *args]

    def _daemon(self, main, *args):
        name = main.rpartition(".")[2]
        return Daemon(name, self._command(main, *args), self.home / f"{name}.log")


def _asked(port, path):
    return dict(json.loads(_answer(f"http://{_HOST}:{port}{path}", "GET")))


def _answer(url, method, content=None):
    request = urllib.request.Request(url, content, method=method)  # noqa: S310 - http:// of this machine
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


class Hdfs(_Hadoop):
    """A NameNode and a DataNode.

    Attributes:
        url: of the file system, such as hdfs://127.0.0.1:8020.
        web: host and port of the NameNode's page.
        namenode: can be stopped or killed in the middle of things; `start` starts it
            again on the same data.
    """

    def __init__(self, home, jars):
        port, self._http, *ports = free_ports(5)
        self.url, self.web = f"hdfs://{_HOST}:{port}", f"{_HOST}:{self._http}"
        site = {
            "dfs.replication": 1,
            "dfs.namenode.name.dir": (home / "name").as_uri(),
            "dfs.datanode.data.dir": (home / "data").as_uri(),
            "dfs.namenode.http-address": f"{_HOST}:{self._http}",
            "dfs.datanode.address": f"{_HOST}:{ports[0]}",
            "dfs.datanode.http.address": f"{_HOST}:{ports[1]}",
            "dfs.datanode.ipc.address": f"{_HOST}:{ports[2]}",
            "dfs.datanode.hostname": _HOST,
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.permissions.enabled": "false",
            "dfs.namenode.safemode.extension": 0,
            "dfs.heartbeat.interval": 1,
            "dfs.blockreport.initialDelay": 0,
        }
        super().__init__(
            home, jars, core_site={"fs.defaultFS": self.url}, hdfs_site=site
        )
        package = "org.apache.hadoop.hdfs.server"
        self.namenode = self._daemon(f"{package}.namenode.NameNode")
        self.datanode = self._daemon(f"{package}.datanode.DataNode")
        self._format = self._command(
            f"{package}.namenode.NameNode", "-format", "-nonInteractive"
        )

    def start(self):
        """Start what does not run, and wait until files can be written."""
        if not (self.home / "name").exists():
            made = Daemon("NameNode -format", self._format, self.home / "format.log")
            made.start()
            assert made.ended() == 0, made.log()
        self.namenode.start()
        self.datanode.start()
        self.namenode.until(self._ready)

    def _ready(self):
        state = _asked(
            self._http, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        )["beans"][0]
        if state["NumLiveDataNodes"] < 1 or state["FSState"] != "Operational":
            return False
        # Refused for a moment longer, until the DataNode is known again
        self.put("/ready/file", b"ready")
        return True

    def put(self, path, content):
        """Land a file whole, over a former one: under a name that Spark passes over first."""
        folder, _, name = path.rpartition("/")
        options = {"overwrite": "true", "noredirect": "true"}
        _answer(
            self._web(f"{folder}/_{name}", "CREATE", "PUT", **options)["Location"],
            "PUT",
            content,
        )
        self._web(
            f"{folder}/_{name}",
            "RENAME",
            "PUT",
            destination=path,
            renameoptions="OVERWRITE",
        )

    def read(self, path):
        """Return what a file holds."""
        return _answer(self._web(path, "OPEN", noredirect="true")["Location"], "GET")

    def date(self, path, seconds):
        """Say when a file was changed, in seconds since 1970."""
        self._web(path, "SETTIMES", "PUT", modificationtime=str(1000 * seconds))

    def names(self, path):
        """Return what is in a folder; nothing where there is none."""
        try:
            found = self._web(path, "LISTSTATUS")["FileStatuses"]["FileStatus"]
        except urllib.error.HTTPError as err:
            if err.code != HTTPStatus.NOT_FOUND:
                raise
            return []
        return [each["pathSuffix"] for each in found]

    def remove(self, path):
        """Remove a file or a folder."""
        self._web(path, "DELETE", "DELETE", recursive="true")

    def _web(self, path, operation, method="GET", **more):
        """Ask by WebHDFS, Hadoop's own interface for programs without Java."""
        query = urllib.parse.urlencode({"op": operation, **more})
        answer = _answer(
            f"http://{_HOST}:{self._http}/webhdfs/v1{urllib.parse.quote(path)}?{query}",
            method,
        )
        return json.loads(answer or b"null")

    def stop(self):
        """End both."""
        self.datanode.kill()
        self.namenode.stop()


class Yarn(_Hadoop):
    """A ResourceManager and a NodeManager.

    `conf` is the HADOOP_CONF_DIR by which spark-submit finds them.
    """

    def __init__(self, home, jars, *, default_fs="file:///"):
        self._web, *ports = free_ports(8)
        manager = "yarn.resourcemanager"
        node = "yarn.nodemanager"
        site = {
            f"{manager}.hostname": _HOST,
            f"{manager}.webapp.address": f"{_HOST}:{self._web}",
            f"{manager}.address": f"{_HOST}:{ports[0]}",
            f"{manager}.scheduler.address": f"{_HOST}:{ports[1]}",
            f"{manager}.resource-tracker.address": f"{_HOST}:{ports[2]}",
            f"{manager}.admin.address": f"{_HOST}:{ports[3]}",
            f"{manager}.nodemanagers.heartbeat-interval-ms": 200,
            f"{node}.address": f"{_HOST}:{ports[4]}",
            f"{node}.localizer.address": f"{_HOST}:{ports[5]}",
            f"{node}.webapp.address": f"{_HOST}:{ports[6]}",
            f"{node}.hostname": _HOST,
            f"{node}.resource.memory-mb": 6144,
            f"{node}.resource.cpu-vcores": 6,
            f"{node}.vmem-check-enabled": "false",
            f"{node}.pmem-check-enabled": "false",
            f"{node}.disk-health-checker.enable": "false",
            f"{node}.local-dirs": home / "local",
            f"{node}.log-dirs": home / "logs",
            f"{node}.env-whitelist": "JAVA_HOME,PATH,LANG,TZ",
            "yarn.scheduler.minimum-allocation-mb": 256,
            "yarn.scheduler.maximum-allocation-mb": 4096,
        }
        queue = "yarn.scheduler.capacity"
        queues = {
            f"{queue}.root.queues": "default",
            f"{queue}.root.default.capacity": 100,
            f"{queue}.root.default.state": "RUNNING",
            f"{queue}.maximum-am-resource-percent": 0.8,
            f"{queue}.node-locality-delay": -1,
        }
        core = {"fs.defaultFS": default_fs, "hadoop.tmp.dir": home / "tmp"}
        super().__init__(
            home, jars, core_site=core, yarn_site=site, capacity_scheduler=queues
        )
        package = "org.apache.hadoop.yarn.server"
        self.manager = self._daemon(f"{package}.resourcemanager.ResourceManager")
        self.node = self._daemon(f"{package}.nodemanager.NodeManager")

    def start(self):
        """Start both, and wait until an application can be given to them."""
        self.manager.start()
        self.node.start()
        self.manager.until(
            lambda: (
                _asked(self._web, "/ws/v1/cluster/metrics")["clusterMetrics"][
                    "activeNodes"
                ]
                >= 1
            )
        )

    def stop(self):
        """End both; containers end with them."""
        self.node.stop()
        self.manager.stop()
