"""Extra: a warm server, which jobs attach to by SPARK_REMOTE.

from sparkstream_kit import server
server.serve(15002, "local").url  # 'sc://localhost'
"""

from sparkstream_kit.server.serving import PORT, Server, folder_of, serve, status, stop

__all__ = ["PORT", "Server", "folder_of", "serve", "status", "stop"]
