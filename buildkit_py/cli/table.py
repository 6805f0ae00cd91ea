"""The subcommands by name: the module that holds each, and its line in the help.

A new subcommand is a new module with a ``COMMAND`` and one line here. Nothing is imported before it
is called.
"""

from __future__ import annotations

from buildkit_py.cli.command import Command

COMMANDS: dict[str, tuple[str, str]] = {
    "build": ("build", "Build an image from a Dockerfile"),
    "plan": ("plan", "Say what a build would do"),
    "why": ("why", "Say why the steps of a build ran"),
    "pin": ("pin", "Write digests into the images of a Dockerfile"),
    "run": ("run", "Run a command in a new container"),
    "port": ("port", "Show a container's published ports"),
    "create": ("create", "Create a container without starting it"),
    "start": ("start", "Start containers"),
    "stop": ("stop", "Stop containers"),
    "restart": ("restart", "Stop containers and start them again"),
    "kill": ("kill", "Send a signal to containers"),
    "wait": ("wait", "Wait until containers have ended"),
    "rm": ("rm", "Remove containers"),
    "ps": ("ps", "List containers"),
    "exec": ("exec", "Run a command in a container that runs"),
    "attach": ("attach", "Connect to a container that runs"),
    "pause": ("pause", "Stop all processes of containers"),
    "unpause": ("unpause", "Let paused containers go on"),
    "rename": ("rename", "Give a container another name"),
    "top": ("top", "Show the processes of a container"),
    "stats": ("stats", "Show what containers use of the machine"),
    "diff": ("diff", "Show what a container changed of its image's files"),
    "update": ("update", "Change the limits and the restart policy of containers"),
    "commit": ("commit", "Make an image of a container"),
    "export": ("export", "Write the files of a container as a tar"),
    "events": ("events", "Show what happens to containers, volumes and networks"),
    "cp": ("cp", "Copy files between a container and this machine"),
    "logs": ("logs", "Show what a container wrote"),
    "images": ("images", "List images"),
    "inspect": ("inspect", "Show a container's or an image's details as JSON"),
    "tag": ("tag", "Give an image another name"),
    "rmi": ("rmi", "Remove images"),
    "pull": ("pull", "Fetch an image from a registry"),
    "push": ("push", "Send an image to a registry"),
    "login": ("login", "Log in to a registry"),
    "logout": ("logout", "Forget the login to a registry"),
    "save": ("save", "Write images to an archive"),
    "load": ("load", "Read images from an archive"),
    "import": ("import_", "Make an image of a root file system's tar"),
    "prune": ("prune", "Remove what is no longer needed"),
    "image history": ("image_history", "Show how an image was made"),
    "image prune": ("image_prune", "Remove images without a name"),
    "container prune": ("container_prune", "Remove all containers that don't run"),
    "system df": ("system_df", "Show what everything takes on disk"),
    "volume create": ("volume_create", "Make a volume"),
    "volume ls": ("volume_ls", "List volumes"),
    "volume inspect": ("volume_inspect", "Show a volume's details as JSON"),
    "volume rm": ("volume_rm", "Remove volumes"),
    "volume prune": ("volume_prune", "Remove volumes that no container has"),
    "network create": ("network_create", "Make a network"),
    "network ls": ("network_ls", "List networks"),
    "network inspect": ("network_inspect", "Show a network's details as JSON"),
    "network connect": ("network_connect", "Put a container on a network"),
    "network disconnect": ("network_disconnect", "Take a container off a network"),
    "network rm": ("network_rm", "Remove networks"),
    "network prune": ("network_prune", "Remove networks that nobody is on"),
    "verify": ("verify", "Build an image again and compare it with what it was"),
    "cache ls": ("cache_ls", "List what is in the build cache"),
    "cache tree": ("cache_tree", "Draw the steps of a build, with what was cached"),
    "cache inspect": ("cache_inspect", "Show every input of a cache key"),
    "cache du": ("cache_du", "Show what the store takes on disk"),
    "cache prune": ("cache_prune", "Remove things from the build cache"),
    "cache verify": ("cache_verify", "Check the store, and mend or drop what is broken"),
    "cache export": ("cache_export", "Write the build cache to one file"),
    "cache import": ("cache_import", "Take a file of another build cache in"),
    "history ls": ("history_ls", "List builds"),
    "history inspect": ("history_inspect", "Show all that is known of a build"),
    "history logs": ("history_logs", "Print what the steps of a build put out"),
    "history report": ("history_report", "Write a build as an HTML page"),
    "history rm": ("history_rm", "Forget builds"),
    "debug dump-ast": ("debug_dump_ast", "Print a Dockerfile's syntax tree"),
    "debug graph": ("debug_graph", "Print a Dockerfile's build graph as DOT"),
    "debug shell": ("debug_shell", "Enter the state of a step of a build"),
    "info": ("info", "Show how many containers and images there are, and where"),
    "doctor": ("doctor", "Say what this machine allows, and how to mend what it doesn't"),
    "completion": ("completion", "Print a shell's completion script"),
    "version": ("version", "Show the version"),
}

ALIASES: dict[str, str] = {
    "image build": "build",
    "image ls": "images",
    "image inspect": "inspect",
    "image tag": "tag",
    "image rm": "rmi",
    "image pull": "pull",
    "image push": "push",
    "image save": "save",
    "image load": "load",
    "image import": "import",
    "image list": "images",
    "image remove": "rmi",
    "container run": "run",
    "container port": "port",
    "container create": "create",
    "container start": "start",
    "container stop": "stop",
    "container restart": "restart",
    "container kill": "kill",
    "container wait": "wait",
    "container rm": "rm",
    "container ls": "ps",
    "container list": "ps",
    "container remove": "rm",
    "container ps": "ps",
    "container exec": "exec",
    "container attach": "attach",
    "container pause": "pause",
    "container unpause": "unpause",
    "container rename": "rename",
    "container top": "top",
    "container stats": "stats",
    "container diff": "diff",
    "container update": "update",
    "container commit": "commit",
    "container export": "export",
    "container cp": "cp",
    "container logs": "logs",
    "system events": "events",
    "container inspect": "inspect",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "network list": "network ls",
    "network remove": "network rm",
    "builder build": "build",
    "builder prune": "cache prune",
    "buildx build": "build",
    "buildx du": "cache du",
    "buildx prune": "cache prune",
    "system prune": "prune",
    "system info": "info",
}
"""Docker's longer names."""

PRESETS: dict[str, tuple[str, ...]] = {
    "image inspect": ("--type=image",),
    "container inspect": ("--type=container",),
}
"""Options that a longer name stands for."""

SHORT: dict[str, str] = {"history": "image history"}
"""Docker's commands that have the names of our groups: what they are where the second word is none of the
group's."""

GROUPS: dict[str, str] = {
    "cache": "The build cache: list, measure, prune, move",
    "history": "Builds of the past: list, inspect, logs, report",
    "network": "Networks of containers: make, list, connect, remove",
    "volume": "Volumes: create, list, inspect, remove",
    "debug": "Look inside: syntax tree, build graph, a step's files",
    "image": "",
    "container": "",
    "builder": "",
    "buildx": "",
    "system": "Disk use, and docker's longer names",
}
"""Names that take a second word; those without a help text are not listed."""


def lengthened(argv: list[str]) -> list[str]:
    """``history IMAGE`` as ``image history IMAGE``."""
    full = SHORT.get(argv[0]) if len(argv) > 1 else None
    if full is None or f"{argv[0]} {argv[1]}" in COMMANDS or argv[1] in ("-h", "--help"):
        return argv
    return [*full.split(), *argv[1:]]


def find(argv: list[str]) -> tuple[str, list[str]] | None:
    """The full name of the subcommand at the head of ``argv``, and what follows it."""
    if not argv:
        return None
    argv = lengthened(argv)
    name, rest = argv[0], argv[1:]
    if name in GROUPS:
        if not rest:
            return None
        name, rest = f"{name} {rest[0]}", rest[1:]
    rest = [*PRESETS.get(name, ()), *rest]
    name = ALIASES.get(name, name)
    return (name, rest) if name in COMMANDS else None


def load(name: str) -> Command:
    """Import the module of a name in COMMANDS."""
    # __import__ with a fromlist, for importlib would be one more module to load.
    module = __import__("buildkit_py.cli." + COMMANDS[name][0], fromlist=["COMMAND"])
    command = module.COMMAND
    assert isinstance(command, Command)
    return command
