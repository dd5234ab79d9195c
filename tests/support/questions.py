"""Plain questions, and the page that must be among the first three that the site's search finds."""

QUESTIONS = {
    "how do I test a stream": "testing.html",
    "window result does not appear": "watermarks.html",
    "add a column to a running job": "change-a-job.html",
    "deploy": "production.html",
    "Kafka JSON": "kafka.html",
    "PostgreSQL exactly once": "postgresql.html",
    "it is slow": "tuning.html",
    "what does this message mean": "wrong.html",
    "late rows": "watermarks.html",
    "notebook": "monitoring.html",
    "restart after a crash": "production.html",
    "service": "service.html",
    "session windows": "session-windows.html",
    "semicolon": "files.html",
    "how do I run it in Airflow?": "airflow.html",
    "docker container": "container.html",
    "join with a table that changes": "joins.html",
    "how do I stop a job": "promises.html",
    "where do I put the password": "secrets.html",
    "install": "install.html",
}
